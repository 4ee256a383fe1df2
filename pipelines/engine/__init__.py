"""The engine: executes the tables' declarations as streams and rebuilds; all I/O of the lake is here."""
