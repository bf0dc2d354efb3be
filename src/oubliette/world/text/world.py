"""The text world as everything else asks it."""

from __future__ import annotations

from oubliette.world.world import World

__all__ = ["TEXT"]

TEXT = World(
    name="text",
    gold="nano-lm-gold",
    overlay="nano",
    title="text world",
    can=("What erasing does to a model that knows every fact of a small world, in every wording.",),
    cannot=("How a method fares on a large model, whose facts hang together in more ways than these.",),
)
