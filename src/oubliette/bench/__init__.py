"""Benchmarks: every method at hand through the same thing, cell by cell, and tables of what came of it."""
