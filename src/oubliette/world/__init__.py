"""What models were trained on, where that is known: worlds as objects, and the embedded picture world.

Imports core.
Begin at `world.py` (what a world answers), `facts.py` (what there is in the picture world), then `scene.py`;
`embedded.py` names the models.
"""
