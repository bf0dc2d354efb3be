"""Every eraser under one harness: erase, draw, judge, and set side by side.

Imports what bench may.
Begin at `bench.py`, then `plan.py`.
"""
