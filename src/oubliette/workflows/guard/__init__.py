"""Guarding from names to folders: the guard room, put to work with data that users name.

Imports what workflows may.
Begin at `learn.py`, then `apply.py`; `sources.py` reads what users name.
"""
