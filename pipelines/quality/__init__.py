"""What the tables are checked for: rules of rows, figures within bounds, and their suites."""
