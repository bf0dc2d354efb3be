"""Every eraser at hand through the same attacks.

Imports what bench may.
Begin at `bench.py`, then `plan.py`.
"""
