"""Holding a training run to a mask: gradients, optimiser, hashes; adapters; a Trainer's callback.

Imports what guard may.
Begin at `enforce.py`.
"""
