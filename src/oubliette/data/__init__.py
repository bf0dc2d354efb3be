"""What users bring and what is shipped: concepts, prompt banks, rows, pictures; read, checked, split.

Imports world and core.
Begin at `concept.py` and `prompts.py` (pictures), `questions.py` (language).
"""
