"""The text world: invented people, places and works, their facts in many wordings, and a few skills.

Begin at `attributes.py` (what can be known of each kind), then `entities.py` (who and what there is),
`asking.py` (the ways a fact is put), `rows.py` (files for erasers and measuring), `corpus.py` (what the
models read).
"""
