"""Benchmarks: ratios within one run, on the real broker."""
