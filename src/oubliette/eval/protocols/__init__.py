"""The field's own protocols, each with its figures.

Imports what eval may.
Begin at `harmonic.py`, the shortest; `rows.py` makes tables of all.
"""
