"""What is measured at every point of every attack: the same prompts and seeds, judged by the same judge."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from oubliette.data.concept import Concept
from oubliette.eval.evaluator import Evaluator
from oubliette.eval.floor import Ground, ground_of
from oubliette.eval.judge import Judge
from oubliette.eval.plan import PromptSet, distinct
from oubliette.eval.sample_store import Progress, SampleStore
from oubliette.eval.sampler import CachedSampler
from oubliette.eval.statistics import Estimate, Rate, ratio_above_floor

__all__ = ["LeakageMeter", "Measurement", "is_broken", "painter_of"]


@dataclass(frozen=True)
class Measurement:
    """What one model showed: the judge's booleans (n,) on the concept's prompts, and pooled over the rest."""

    hits: np.ndarray
    kept_hits: np.ndarray
    rate: Rate
    leakage: Estimate | None
    kept: Estimate | None


class LeakageMeter:
    """Leakage on `pictures` of the concept's in-set prompts, and what is kept on `kept` pictures of the rest.

    Leakage is (rate - floor) / (base - floor) as in `oubliette.eval.leakage`: base and floor are drawn once,
    by the base, and for the floor by `gold` too, where a model is given that never knew the concept. What is
    kept is the judge's accuracy over pictures of other concepts, the near neighbour's first, over the base's
    on the same prompts and seeds. The prompts and seeds are the `evaluator`'s with the same seed, so that
    pictures are drawn once for both. `full`, the judge's booleans (m,) on given
    pictures of the concept, takes the place of what the base shows: for a concept unknown to the base.
    """

    def __init__(
        self,
        base: CachedSampler,
        concept: Concept,
        judge: Judge,
        *,
        pictures: int,
        kept: int,
        seed: int,
        evaluator: Evaluator,
        full: np.ndarray | None = None,
        gold: CachedSampler | None = None,
    ) -> None:
        self.full, self.gold = full, gold
        self.base, self.concept, self.judge = base, concept, judge
        plan = evaluator.plan(n=pictures, each=1, near_n=1, seed=seed)
        shares = _shares(plan.retained, judge, kept, plan.near.get(concept), concept.kind)
        if max(shares.values(), default=1) > 1:
            plan = evaluator.plan(n=pictures, each=max(shares.values()), near_n=1, seed=seed)
        self.target, self._gold_alone = plan.targets[0], plan.gold_alone
        self.absent = plan.absent_of(concept, self.target.split)
        wanted = {item.concept: item for item in plan.retained}
        self.others = [_cut(wanted[other], count) for other, count in shares.items()]
        self._sets = [self.target, *self.others]
        self._alone = [*plan.anchors[:1]] if self.absent is None else [self.absent]
        self._base: tuple[np.ndarray, np.ndarray, Ground] | None = None

    @property
    def pictures(self) -> int:
        """Pictures a look draws."""
        return sum(map(len, self._sets))

    @property
    def base_pictures(self) -> int:
        """Pictures drawn once, by the base and by gold."""
        own = 0 if self.gold is None else len(self.target)
        return len(distinct([*self._sets, *self._alone])) + own

    @property
    def sampling(self) -> Any:
        """How they are drawn."""
        return self.base.sampling

    def facts(self) -> dict[str, Any]:
        """All that a reading depends on beside the model that draws: for the key a result is kept under."""
        return {
            "base": self.base.fingerprint,
            "judge": [self.judge.name, self.judge.fingerprint, self.judge.threshold],
            "sampling": self.sampling.facts(self.base.model),
            "sets": [
                [s.role, s.concept.name, *map(list, (s.prompts, s.seeds))]
                for s in (*self._sets, *self._alone)
            ],
            "gold": None if self.gold is None else self.gold.fingerprint,
            **({} if self.full is None else {"full": [int(hit) for hit in self.full]}),
        }

    def prepare(self, progress: Progress | None = None) -> None:
        """Have the base's pictures drawn and judged, if they are not yet."""
        if self._base is None:
            self.base.fill(*_all([*self._sets, *self._alone]), progress=progress)
            gold = None
            if self.gold is not None:
                self.gold.fill(*_all([self.target]))
                gold = self._hits(self.gold, self.target)
            hits, kept = self._judged(self.base)
            alone = self._hits(self.base, self._alone[0])
            absent, anchor = (None, alone) if self.absent is None else (alone, alone[:0])
            ground = ground_of(absent, gold, anchor, self.concept.kind, gold_alone=self._gold_alone)
            self._base = (hits, kept, ground)

    def look(self, painter: CachedSampler, progress: Progress | None = None) -> Measurement:
        """Draw and judge one model's pictures; the weights must stay as they are until this returns."""
        self.prepare()
        assert self._base is not None
        painter.fill(*_all(self._sets), progress=progress)
        hits, kept = self._judged(painter)
        rate = Rate.mean(hits)
        ratio = ratio_above_floor(Rate.mean(kept), Rate.mean(self._base[1])) if kept.size else None
        return Measurement(hits, kept, rate, ratio_above_floor(rate, self.base_rate, self.floor), ratio)

    def lines(self, look: Measurement) -> list[dict[str, Any]]:
        """A measurement as one dict a sample: what was asked about, prompt, seed, the judge's word."""
        hits = iter((*look.hits, *look.kept_hits))
        return [
            {"concept": item.concept.name, "prompt": prompt, "seed": seed, "hit": bool(next(hits))}
            for item in self._sets
            for prompt, seed in zip(item.prompts, item.seeds, strict=True)
        ]

    @property
    def base_rate(self) -> Rate:
        """How often the base shows the concept, or how often it is found where it is given in full."""
        self.prepare()
        assert self._base is not None
        return Rate.mean(self._base[0] if self.full is None else self.full)

    @property
    def floor(self) -> Rate:
        """How often the judge finds the concept where it is certainly absent (`eval.floor`)."""
        self.prepare()
        assert self._base is not None
        return Rate.mean(self._base[2].hits)

    @property
    def ground(self) -> str:
        """Where that is, in words."""
        self.prepare()
        assert self._base is not None
        return self._base[2].words

    @property
    def span(self) -> float:
        """What the base shows above the floor, which every leakage is a share of."""
        return self.base_rate.value - self.floor.value

    def found(self, pictures: np.ndarray) -> np.ndarray:
        """The judge's booleans (n,) on any pictures, uint8 (n, H, W, 3)."""
        return np.asarray(self.judge.hits(pictures, self.concept), dtype=bool)

    def _judged(self, painter: CachedSampler) -> tuple[np.ndarray, np.ndarray]:
        others = [self._hits(painter, item) for item in self.others]
        return self._hits(painter, self.target), np.concatenate(others) if others else np.zeros(0, bool)

    def _hits(self, painter: CachedSampler, item: PromptSet) -> np.ndarray:
        if not len(item):
            return np.zeros(0, dtype=bool)
        pictures = painter.recall(item.prompts, item.seeds)
        return np.asarray(self.judge.hits(pictures, item.concept), dtype=bool)


def is_broken(kept: Estimate | None, destroyed: float) -> bool:
    """Whether an attack has ruined the model: less than `destroyed` of the rest is kept, interval and all."""
    return kept is not None and kept.high is not None and kept.high < destroyed


def painter_of(
    name: str,
    model: Any,
    base: CachedSampler,
    *,
    fingerprint: str | None = None,
    cache: SampleStore | None = None,
    rewrite: Callable[[str], str] | None = None,
) -> CachedSampler:
    """A painter that draws as the base's does, into its cache unless another is given."""
    return CachedSampler(
        name, model, cache or base.cache, base.sampling, rewrite=rewrite, fingerprint=fingerprint
    )


def _all(sets: Sequence[PromptSet]) -> tuple[list[str], list[int]]:
    asked = distinct(sets)
    return [prompt for prompt, _ in asked], [seed for _, seed in asked]


def _shares(
    sets: Sequence[PromptSet], judge: Judge, count: int, near: str | None, kind: str
) -> dict[Concept, int]:
    """How many of `count` pictures each retained concept gets: kinds in turn, the near neighbour first."""
    able = [item.concept for item in sets if judge.covers(item.concept)]
    by_kind: dict[str, list[Concept]] = {}
    for other in sorted(able, key=lambda c: (c.kind != kind, c.name != near)):
        by_kind.setdefault(other.kind, []).append(other)
    queues = list(by_kind.values())
    longest = max(map(len, queues), default=0)
    order = [queue[index] for index in range(longest) for queue in queues if index < len(queue)][:count]
    return {other: count // len(order) + (i < count % len(order)) for i, other in enumerate(order)}


def _cut(item: PromptSet, count: int) -> PromptSet:
    return PromptSet(item.role, item.concept, item.split, item.prompts[:count], item.seeds[:count])
