"""Streams of deletion requests: every method at hand on the same records, in several orders.

Imports what bench may.
Begin at `bench.py`, then `plan.py`.
"""
