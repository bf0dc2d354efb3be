"""Invented records that a stream may ask to be forgotten: persons, papers, poems, code and rumours.

Imports what world may.
Begin at `records.py`, then `layouts.py`.
"""
