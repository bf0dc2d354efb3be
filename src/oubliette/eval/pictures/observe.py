"""What judges and CLIP say of the pictures one row draws: raw, before any figure is made of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from oubliette.eval.judge import Judge
from oubliette.eval.pictures.clip import clip_accuracy, clip_score, unit, zero_shot
from oubliette.eval.pictures.clip_judge import ClipJudge
from oubliette.eval.pictures.fidelity import Extractor
from oubliette.eval.plan import PromptSet, distinct
from oubliette.eval.sample_store import Progress
from oubliette.eval.sampler import CachedSampler


@dataclass(frozen=True)
class Observation:
    """One set of pictures: a boolean (n,) by each judge that covers the concept, and what CLIP sees in them.

    `features` (n, d) come from the extractor, `pixels` (n,) are distances to the base's pictures of the same
    prompts and seeds; the CLIP arrays (n,) are score with the concept's words (for a retained set, with the
    prompt itself), whether the concept beats its anchor, and whether it is the best of all names of its kind;
    `margin` (n,) is the CLIP judge's own score of the concept against its anchor.
    """

    keys: list[str]
    hits: dict[str, np.ndarray]
    features: np.ndarray | None
    pixels: np.ndarray | None
    score: np.ndarray | None
    accuracy: np.ndarray | None
    best: np.ndarray | None
    margin: np.ndarray | None = None


class Observer:
    """Holds the judges and the CLIP of an evaluation and looks at set after set.

    `names` maps a kind to all names that a zero-shot choice is made among. The CLIP is that of the first
    `ClipJudge`.
    """

    def __init__(
        self, judges: Sequence[Judge], names: dict[str, list[str]], extractor: Extractor | None = None
    ) -> None:
        self.judges = list(judges)
        self.clip = next((judge for judge in judges if isinstance(judge, ClipJudge)), None)
        self.extractor: Extractor | None = extractor or (self.clip.clip if self.clip else None)
        self._names = names

    def observe(
        self,
        painter: CachedSampler,
        sets: Sequence[PromptSet],
        *,
        against: CachedSampler | None = None,
        progress: Progress | None = None,
    ) -> dict[str, Observation]:
        """Observations by set key.

        All sets are drawn together, so that batches are full. `against` has drawn the same sets before, for
        paired distances.
        """
        asked = distinct(sets)
        painter.fill([prompt for prompt, _ in asked], [seed for _, seed in asked], progress=progress)
        found = {}
        for item in sets:
            paired = against if item.role == "retained" else None
            other = None if paired is None else paired.recall(item.prompts, item.seeds)
            found[item.key] = self._look(painter, item, painter.recall(item.prompts, item.seeds), other)
        return found

    def _look(
        self, painter: CachedSampler, item: PromptSet, pictures: np.ndarray, other: np.ndarray | None
    ) -> Observation:
        concept = item.concept
        judged = item.role != "reference"
        hits = {j.name: j.hits(pictures, concept) for j in self.judges if judged and j.covers(concept)}
        features = None
        if self.extractor is not None and item.role in ("retained", "reference"):
            features = self.extractor.features(pictures)
        score = accuracy = best = None
        if self.clip is not None and item.role == "retained":
            score = clip_score(
                self.clip.clip.encode_pictures(pictures), self.clip.clip.encode_texts(item.prompts)
            )
        elif self.clip is not None and item.role == "target" and self.clip.covers(concept):
            score, accuracy, best = self._clip_target(item, pictures)
        margin = None
        if self.clip is not None and item.role in ("target", "anchor") and self.clip.covers(concept):
            margin = self.clip.margin(pictures, concept)
        pixels = None if other is None else painter.sampling.distances(pictures, other)
        return Observation(
            painter.keys(item.prompts, item.seeds), hits, features, pixels, score, accuracy, best, margin
        )

    def _clip_target(
        self, item: PromptSet, pictures: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        if self.clip is None:
            raise ValueError("no CLIP judge is among the judges")
        concept = item.concept
        seen = unit(self.clip.clip.features(pictures))
        target = self.clip.encode_name(concept.name, concept.kind)
        anchor = self.clip.encode_anchor(concept.anchor)
        names = [concept.name, *(n for n in self._names.get(concept.kind, []) if n != concept.name)]
        words = np.stack([self.clip.encode_name(name, concept.kind) for name in names])
        return clip_score(seen, target), clip_accuracy(seen, target, anchor), zero_shot(seen, words) == 0
