"""CLIP as a judge that picks one name among many, as classifiers do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from oubliette.eval.judge import Judge
from oubliette.eval.pictures.clip_judge import ClipJudge

if TYPE_CHECKING:
    from oubliette.data.concept import Concept


class ZeroShotJudge:
    """The concept is in a picture whose nearest name, among all names of the concept's kind, is its own.

    `names` maps a kind to the names that are chosen among. Where a `ClipJudge` asks whether a picture is
    nearer the concept than its anchor, this one asks which of the names it is (Radford et al. 2021,
    arXiv:2103.00020), so that its rate is a top-1 accuracy. A picture of none of them is still called one of
    them.
    """

    threshold: float | None = None

    def __init__(self, judge: ClipJudge, names: Mapping[str, Sequence[str]]) -> None:
        self.name = f"{judge.name} top-1"
        self.fingerprint = judge.fingerprint
        self._judge = judge
        self._names = {kind: list(dict.fromkeys(own)) for kind, own in names.items()}

    def covers(self, concept: Concept) -> bool:
        """Whether the concept is among the names, and the CLIP has words for all of those."""
        return concept.name in self._names.get(concept.kind, ()) and self._judge.covers(concept)

    def hits(self, pictures: np.ndarray, concept: Concept) -> np.ndarray:
        """Boolean (n,): the concept's name is the nearest."""
        return self._cosines(pictures, concept).argmax(1) == self._index(concept)

    def probabilities(self, pictures: np.ndarray, concept: Concept) -> np.ndarray:
        """Softmax probability (n,) of the concept's name among all of them, at the CLIP's own scale."""
        logits = self._judge.clip.scale * self._cosines(pictures, concept).astype(np.float64)
        shares = np.exp(logits - logits.max(1, keepdims=True))
        return shares[:, self._index(concept)] / shares.sum(1)

    def _index(self, concept: Concept) -> int:
        return self._names[concept.kind].index(concept.name)

    def _cosines(self, pictures: np.ndarray, concept: Concept) -> np.ndarray:
        words = [self._judge.encode_name(name, concept.kind) for name in self._names[concept.kind]]
        return self._judge.clip.encode_pictures(pictures) @ np.stack(words).T


def top_one(judge: Judge, names: Mapping[str, Sequence[str]]) -> Judge:
    """The judge as one whose rate is a top-1 accuracy: a CLIP is given the names, others have classes."""
    return ZeroShotJudge(judge, names) if isinstance(judge, ClipJudge) else judge
