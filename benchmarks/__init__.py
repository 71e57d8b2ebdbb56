"""Benchmarks. Each module prints its figures when it is run."""
