"""Benchmarks: every method at hand put through the same thing, cell by cell, and tables of what came of it."""
