"""Methods of continual learning with and without refresh, on a labelled set of pictures.

Imports what bench may.
Begin at `bench.py`, then `plan.py`.
"""
