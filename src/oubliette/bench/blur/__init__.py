"""BLUR (arXiv 2506.15699): unlearned models under prompts that mix both sets, and benign relearning by tiers.

Imports what bench may. (The surgery `priority` is of a method that bears the same name.)
Begin at `bench.py`, then `plan.py`.
"""
