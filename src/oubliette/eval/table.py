"""The table of an evaluation: row after row is drawn, the base's pictures being judged once; then figures."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from oubliette.eval.controls import GOLD
from oubliette.eval.figures import Observations, concept_figures, fidelity_figures
from oubliette.eval.judge import Judge, covering
from oubliette.eval.meter import Reader
from oubliette.eval.metric import Figure
from oubliette.eval.pictures.clip_agreement import Agreement, agreement
from oubliette.eval.pictures.observe import Observation, Observer
from oubliette.eval.plan import Plan, distinct
from oubliette.eval.result import Row
from oubliette.eval.sample_store import Progress
from oubliette.eval.sampler import CachedSampler
from oubliette.eval.verdict import Bounds

#: Told as pictures are done: how many, of how many, whose.
Listener = Callable[[int, int, str], None]


class Table:
    """Looks at row after row, the base's observations being taken once, and makes figures of all at the end:
    gold's pictures belong to every row's floor.
    """

    def __init__(
        self,
        plan: Plan,
        observer: Observer,
        judges: Sequence[Judge],
        bounds: Bounds,
        base: CachedSampler,
        progress: Listener | None,
        meter: Reader | None = None,
    ) -> None:
        self.plan, self.observer, self.judges, self.bounds = plan, observer, judges, bounds
        self.base, self.meter = base, meter
        self.samples: list[dict[str, Any]] = []
        self._progress = progress
        self._before = self._total = 0
        self._base_seen: Observations = {}
        self._targets: list[tuple[str, Observation]] = []
        self._base_seconds = 0.0
        self._seen: list[tuple[CachedSampler, Observations, float]] = []

    def begin(self, rows: int) -> None:
        """Draw the base's pictures; `rows` further rows are to come."""
        self._total = self.plan.pictures(rows)
        started = time.monotonic()
        sets = (*self.plan.shared, *self.plan.base_only)
        self._base_seen = self.observer.observe(self.base, sets, progress=self._told(self.base.name))
        self._before += len(distinct(sets))
        if self.meter is not None:
            self.meter.look(self.base)
        self._base_seconds = time.monotonic() - started

    def none(self) -> None:
        """Add the base's own row."""
        self._seen.append((self.base, self._base_seen, self._base_seconds))

    def look(self, painter: CachedSampler) -> None:
        """Draw and judge the row of any other painter; its weights may change once this returns."""
        started = time.monotonic()
        seen = self.observer.observe(
            painter, self.plan.shared, against=self.base, progress=self._told(painter.name)
        )
        self._before += len(distinct(self.plan.shared))
        if self.meter is not None:
            self.meter.look(painter)
        self._seen.append((painter, seen, time.monotonic() - started))

    def rows(self) -> list[Row]:
        """The figures of every row, in the order they were looked at."""
        gold = next((seen for painter, seen, _ in self._seen if _is_gold(painter)), None)
        return [self._figures(painter, seen, seconds, gold) for painter, seen, seconds in self._seen]

    def metrics(self) -> list[Figure]:
        """The figures of every row's metrics, in the order they were looked at."""
        if self.meter is None:
            return []
        gold = next((painter.name for painter, _, _ in self._seen if _is_gold(painter)), None)
        return [
            figure
            for painter, _, _ in self._seen
            for figure in self.meter.figures(painter.name, self.base.name, gold)
        ]

    def agreements(self) -> list[Agreement]:
        """For each concept, the CLIP judge's score against the first other judge's word, over all rows."""
        clip, found = self.observer.clip, []
        for concept in self.plan.concepts if clip is not None else ():
            other = next((judge for judge in covering(self.judges, concept) if judge is not clip), None)
            mine = {item.key for item in (*self.plan.targets, *self.plan.anchors) if item.concept == concept}
            if clip is not None and other is not None:
                seen = [observation for key, observation in self._targets if key in mine]
                found.append(agreement(concept, seen, judge=clip.name, reference=other.name))
        return [one for one in found if one is not None]

    def _figures(
        self, painter: CachedSampler, seen: Observations, seconds: float, gold: Observations | None
    ) -> Row:
        clip = self.observer.clip.clip.name if self.observer.clip else None
        extractor = self.observer.extractor.name if self.observer.extractor else None
        self.samples += _samples(painter.name, self.plan, seen)
        judged = (*self.plan.targets, *self.plan.anchors)
        self._targets += [(item.key, seen[item.key]) for item in judged if item.key in seen]
        return Row(
            name=painter.name,
            role=painter.role,
            fingerprint=painter.fingerprint,
            concepts=[
                concept_figures(
                    concept,
                    self.plan,
                    self.judges,
                    seen,
                    self._base_seen,
                    bounds=self.bounds,
                    clip=clip,
                    gold=gold,
                    is_gold=_is_gold(painter),
                    also_kept=[] if self.meter is None else self.meter.kept(painter.name, self.base.name),
                )
                for concept in self.plan.concepts
            ],
            fidelity=fidelity_figures(self.plan, seen, self._base_seen, extractor),
            seconds=round(seconds, 3),
        )

    def _told(self, who: str) -> Progress:
        before = self._before

        def told(done: int, _: int) -> None:
            if self._progress is not None:
                self._progress(before + done, self._total, who)

        return told


def _is_gold(painter: CachedSampler) -> bool:
    return painter.role == "control" and painter.name == GOLD


def _samples(row: str, plan: Plan, seen: Observations) -> list[dict[str, Any]]:
    sets = [item for item in (*plan.shared, *plan.anchors, *plan.absent) if item.key in seen]
    return [
        {
            "row": row,
            "role": item.role,
            "kind": item.concept.kind,
            "concept": item.concept.name,
            "split": item.split,
            "prompt": prompt,
            "seed": seed,
            "picture": seen[item.key].keys[index],
            "hits": {judge: bool(mask[index]) for judge, mask in seen[item.key].hits.items()},
        }
        for item in sets
        for index, (prompt, seed) in enumerate(zip(item.prompts, item.seeds, strict=True))
    ]
