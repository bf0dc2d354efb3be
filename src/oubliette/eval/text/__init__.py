"""What looks at answers: their judge, their likelihood, the evaluator of models that answer.

Imports what eval may.
Begin at `evaluator.py`, then `answer_judge.py`.
"""
