"""Draws of supervised data and their losses: pictures to denoise, answers to give.

Imports what train may.
Begin at `answering.py`, the shorter one.
"""
