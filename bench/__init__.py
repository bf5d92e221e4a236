"""Comparisons and benchmarks: `make bench-NAME` runs `python -m bench.NAME`. Never part of the tests."""
