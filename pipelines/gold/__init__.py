"""Gold: the definitions of docs/definitions.md as pure functions of silver, DataFrame to DataFrame."""
