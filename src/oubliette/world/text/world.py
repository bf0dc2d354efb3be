"""The text world, as everything outside this room asks it."""

from __future__ import annotations

from oubliette.world.world import World

__all__ = ["TEXT"]

#: Its things are rows of files, not names: what gold never read of is a forget set of `oubliette world text`.
TEXT = World(
    name="text",
    gold="nano-lm-gold",
    overlay="nano",
    title="text world",
    can=(
        "Whether a method does what its equations say, on a real causal language model, in minutes on a "
        "laptop.",
        "The whole of what is lost: every fact of every entity can be asked for, in wordings that no eraser "
        "was given, and a guess is right once in twenty times.",
        "What perfect forgetting looks like: the gold model, of the same training, read nothing of the "
        "forget sets.",
    ),
    cannot=(
        "How a method fares on a large model. Three million weights know invented facts in plain sentences, "
        "answer in a few words, and do not reason: by letter they guess, and from one fact to the next they "
        "seldom get.",
        "Whether a fact is gone or merely unsaid. That takes an attack; these figures are about questions "
        "alone.",
        "A ranking of methods. One world, one forget set and one seed say nothing about a method in general.",
    ),
)
