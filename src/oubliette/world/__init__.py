"""The picture world: the small, fully known world that the embedded models were trained on.

Imports core.
Begin at `facts.py` (what there is in it), then `scene.py`; `embedded.py` names the models.
"""
