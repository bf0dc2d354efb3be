"""The audit: evaluation, attacks and probes on one model beside gold, and a verdict.

Imports attack, eval, guard and what lies below; hands data to report and imports it never.
Begin at `suite.py` (what is asked), then `rows.py` (a row run) and `verdict.py`.
"""
