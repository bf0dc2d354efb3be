"""Utility in UnlearnCanvas's terms: UA, IRA (near and far) and CRA (Zhang et al. 2024, arXiv:2402.11846)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from oubliette.data.concept import Concept
from oubliette.eval.statistics import Estimate, Rate, ratio_above_floor


@dataclass(frozen=True)
class Kept:
    """An accuracy on what must be kept, the base's on the same prompts and seeds, and their ratio.

    The ratio is None where the base's own accuracy is zero.
    """

    rate: Rate
    base: Rate
    ratio: Estimate | None
    concepts: int


@dataclass(frozen=True)
class Utility:
    """What one judge says of a model after a concept was erased.

    `ua` unlearning accuracy: pictures prompted with the concept in which the judge does not find it. `ira`
    in-domain retain accuracy: pictures of the other concepts of its kind in which the judge finds what was
    asked for, `near` on the declared neighbour alone and `far` on the rest. `cra` cross-domain: the same over
    concepts of other kinds. None where there was nothing to measure.
    """

    judge: str
    ua: Rate
    ira: Kept | None
    ira_near: Kept | None
    ira_far: Kept | None
    cra: Kept | None
    per_concept: dict[str, Rate] = field(default_factory=dict)

    @property
    def left(self) -> dict[str, float]:
        """What is left of the base's accuracy, as shares: "near", "far", "other kinds", where measured."""
        parts = {"near": self.ira_near, "far": self.ira_far, "other kinds": self.cra}
        return {name: p.ratio.value for name, p in parts.items() if p is not None and p.ratio is not None}


def utility(
    concept: Concept,
    near: str | None,
    target: np.ndarray,
    hits: Mapping[Concept, np.ndarray],
    base: Mapping[Concept, np.ndarray],
    *,
    judge: str,
    each: int | None = None,
) -> Utility:
    """UA, IRA and CRA for one erased concept.

    `target` are the judge's booleans on the concept's own prompts; `hits` and `base` map every retained
    concept to the judge's booleans on its prompts for the model and for the base, same prompts and seeds. At
    most `each` pictures of a concept enter the pooled figures, so that every concept weighs the same; `near`
    takes all there are.
    """
    same = [other for other in hits if other.kind == concept.kind]
    cross = [other for other in hits if other.kind != concept.kind]
    return Utility(
        judge=judge,
        ua=Rate.mean(~target),
        ira=_kept(same, hits, base, each),
        ira_near=_kept([other for other in same if other.name == near], hits, base, None),
        ira_far=_kept([other for other in same if other.name != near], hits, base, each),
        cra=_kept(cross, hits, base, each),
        per_concept={f"{other.kind}: {other.name}": Rate.mean(hits[other]) for other in hits},
    )


def _kept(
    concepts: Sequence[Concept],
    hits: Mapping[Concept, np.ndarray],
    base: Mapping[Concept, np.ndarray],
    each: int | None,
) -> Kept | None:
    if not concepts:
        return None
    rate = Rate.mean(np.concatenate([hits[c][:each] for c in concepts]))
    shown = Rate.mean(np.concatenate([base[c][:each] for c in concepts]))
    return Kept(rate, shown, ratio_above_floor(rate, shown), len(concepts))
