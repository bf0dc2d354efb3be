"""What looks at pictures: judges, CLIP, distances, the evaluator of models that draw.

Imports what eval may.
Begin at `evaluator.py`, then `oracle_judge.py`.
"""
