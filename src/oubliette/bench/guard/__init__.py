"""What a mask buys: fine-tuning under every learner's and baseline's masks, illegal and innocent.

Imports what bench may.
Begin at `bench.py`, then `plan.py`.
"""
