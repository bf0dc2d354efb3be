"""Measuring: judges, leakage, utility, fidelity, controls, verdicts. Nothing in this room trains.

Imports train and what lies below; never attack, erase or guard.
Begin at `evaluate.py`: `measure` is the whole of it; `evaluator.py` is the seam between modalities.
"""
