"""The floor: how often a judge finds a concept where it is certainly absent."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from oubliette.data.concept import samples_of
from oubliette.eval.leakage import ON_ANCHOR

__all__ = ["Ground", "ground_of"]


@dataclass(frozen=True)
class Ground:
    """The judge's booleans (m,) where the concept is absent, and in words where that is."""

    hits: np.ndarray
    words: str


def ground_of(
    absent: np.ndarray | None,
    gold: np.ndarray | None,
    anchor: np.ndarray | None,
    kind: str,
    *,
    gold_alone: bool = False,
) -> Ground:
    """The floor's pictures: the base's of the other concepts of the kind, pooled with gold's of the concept,
    or with `gold_alone` gold's, where there are any.

    Each is the judge's booleans for the concept, None where there are no such pictures; where there are
    neither, the anchor's take their place, which may show the concept.
    """
    if gold_alone and gold is not None and gold.size:
        absent = None
    found = [
        (hits, words)
        for hits, words in (
            (
                absent,
                f"the base's {0 if absent is None else absent.size} {samples_of(kind)} of other {kind}s",
            ),
            (gold, f"gold's {0 if gold is None else gold.size} of it"),
        )
        if hits is not None and hits.size
    ]
    if not found:
        if anchor is None:
            raise ValueError("a floor needs samples in which the concept is absent")
        return Ground(anchor, ON_ANCHOR)
    return Ground(np.concatenate([hits for hits, _ in found]), " and ".join(words for _, words in found))
