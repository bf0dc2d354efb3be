"""Erasers for text-to-image diffusion models: one file a method.

Imports what erase may.
Begin at `common.py`, then `esd.py` (trained), `uce.py` (solved), `sld.py` (attached).
"""
