"""Whether CLIP may judge: its score against the oracle's word on the pictures of an evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from oubliette.data.concept import Concept
from oubliette.eval.auroc import Auroc, auroc
from oubliette.eval.pictures.observe import Observation


@dataclass(frozen=True)
class Agreement:
    """How well a CLIP judge's score sorts generated pictures as another judge labels them, on one concept.

    `auroc` is None where the other judge found the concept in all of the pictures or in none.
    """

    judge: str
    reference: str
    kind: str
    concept: str
    auroc: Auroc | None

    def __str__(self) -> str:
        head = f"{self.judge} against {self.reference} on {self.concept}: "
        if self.auroc is None:
            return head + "all pictures have one label, so that there is nothing to sort"
        found = self.auroc
        return (
            f"{head}AUROC {found.value:.3f} [{found.low:.3f}, {found.high:.3f}], "
            f"{found.positives} pictures with it and {found.negatives} without"
        )


def agreement(
    concept: Concept, seen: Sequence[Observation], *, judge: str, reference: str
) -> Agreement | None:
    """AUROC of the CLIP judge's margin against the reference's booleans over all the pictures seen.

    `seen` are observations of the concept's and its anchor's prompts by any number of models; those without
    a margin or without the reference's word are left out, and None is returned where nothing is left.
    """
    usable = [one for one in seen if one.margin is not None and reference in one.hits]
    if not usable:
        return None
    margins = np.concatenate([one.margin for one in usable if one.margin is not None])
    labels = np.concatenate([one.hits[reference] for one in usable])
    return Agreement(judge, reference, concept.kind, concept.name, auroc(margins, labels))
