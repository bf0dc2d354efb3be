"""Policies of streams: one file a policy, and what FIT's is made of.

Imports what erase may.
Begin at `../policy.py`, then `fixed.py`, then `fit.py`.
"""
