"""Attacks that train nothing: they ask by other doors whether the concept is still in the weights.

Imports what attack may.
Begin at `probe.py`, then `detach.py`, the least of them.
"""
