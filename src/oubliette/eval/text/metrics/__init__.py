"""Metrics of models that answer, a file an idea; `oubliette.eval.metric.METRICS` has them by name.

Imports what eval may.
Begin at `row_metric.py`, then `probability.py`.
"""
