"""Learning a mask: the problem, the data's two sides, what fine-tuning moved, the budget's cut.

Imports what guard may; no learner but by name.
Begin at `learn.py`, then `problem.py`.
"""
