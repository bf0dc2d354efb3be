"""What models were trained on, where that is known: worlds as objects, and those of the embedded models.

Imports core.
Begin at `world.py` (what a world answers), then `facts.py` and `scene.py` (the picture world) or
`text/attributes.py`; `embedded.py` names the models.
"""
