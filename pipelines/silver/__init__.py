"""Silver: valid events, each once, and the quarantine of the rest. Pure functions, DataFrame to DataFrame."""
