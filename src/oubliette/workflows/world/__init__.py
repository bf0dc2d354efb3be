"""The embedded worlds from outside: sheets of them, their bars, the training of their models.

Imports what workflows may.
Begin at `draw.py`, then `check.py`.
"""
