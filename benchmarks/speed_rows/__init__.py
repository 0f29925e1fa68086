"""The rows of the table of benchmarks/speed.py, one module for each kind of measurement.

Each has a function `rows` from an `Effort` to `Row`s.
"""
