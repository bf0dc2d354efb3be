"""Benchmarks: every method at hand through the same thing, cell by cell, and tables of what came of it.

Imports workflows and what lies below.
Begin at `runner.py`, then `erasure/bench.py`.
"""
