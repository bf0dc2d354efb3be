"""Requests erased one after another: reading them, running them, what they leave.

Imports what workflows may.
Begin at `run.py`, then `stages.py`.
"""
