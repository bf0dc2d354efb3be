"""Learning task after task: one loss with Bregman terms on outputs and weights; methods are its settings.

Imports train and below; never erase, attack, eval or guard.
Begin at `bregman.py`, then `method.py`, `objective.py`, `run.py`.
"""
