"""Every eraser of language models on the text world, and what attacks bring back.

Imports what bench may.
Begin at `bench.py`, then `plan.py`.
"""
