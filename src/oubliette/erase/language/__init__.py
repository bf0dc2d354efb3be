"""Erasers of language models: one file a method.

Imports what erase may.
Begin at `prepare.py` (its data), then `npo.py`.
"""
