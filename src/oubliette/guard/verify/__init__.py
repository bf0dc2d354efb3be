"""Holding a finished model's files against a mask; nothing is loaded, the base is not needed.

Imports what guard may.
Begin at `verify.py`, then `checkpoint.py` and `adapter_file.py`.
"""
