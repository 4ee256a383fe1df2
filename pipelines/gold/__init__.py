"""Gold: the definitions of the spec, section 6, as pure functions of silver, DataFrame to DataFrame."""
