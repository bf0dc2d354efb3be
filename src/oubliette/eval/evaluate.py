"""One call from models to figures: draw, judge, compare with the base and the controls, decide."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from oubliette.data.concept import Concept
from oubliette.data.csv import read_prompts
from oubliette.data.prompts import load_bank
from oubliette.errors import UserError
from oubliette.eval.controls import NONE, check_control, open_control
from oubliette.eval.fidelity import Extractor
from oubliette.eval.figures import Observations, concept_figures, fidelity_figures
from oubliette.eval.judge import Judge, covering, default_judges, open_judge
from oubliette.eval.observe import Observer
from oubliette.eval.order import misordered
from oubliette.eval.painter import Painter, Sampling
from oubliette.eval.pictures import PictureCache
from oubliette.eval.plan import Bank, Plan, make_plan
from oubliette.eval.result import Evaluation, JudgeFacts, Row, Settings
from oubliette.eval.scenery import neighbours, rest_of_world, words_of
from oubliette.eval.verdict import Bounds
from oubliette.manifest import record

#: Told as pictures are done: how many, of how many, whose.
Listener = Callable[[int, int, str], None]


def evaluate(
    model: Any, base: Any, concepts: Sequence[Concept], *, name: str = "erased", **options: Any
) -> Evaluation:
    """Measure one model against its base; `options` are those of `compare`."""
    return compare({name: model}, base, concepts, **options)


def compare(
    models: Mapping[str, Any],
    base: Any,
    concepts: Sequence[Concept],
    *,
    judges: Sequence[Judge | str] | None = None,
    n: int = 50,
    each: int | None = None,
    near_n: int | None = None,
    seed: int = 0,
    cache: PictureCache | Path | str | None = None,
    controls: Sequence[str | tuple[str, Any]] = (),
    prompts_csv: Path | str | None = None,
    retained: Sequence[Concept] | None = None,
    near: Mapping[str, str] | None = None,
    bank: Bank | None = None,
    sampling: Sampling | None = None,
    extractor: Extractor | None = None,
    bounds: Bounds | None = None,
    progress: Listener | None = None,
) -> Evaluation:
    """Measure models against their base on leakage, utility and fidelity, beside the controls asked for.

    `models` maps a row's name to a model; `concepts` are what was erased from them. `n` pictures a concept
    and split, `each` a retained concept (default n / 8, at least 4), `near_n` for a near neighbour (default n
    / 2). `judges` are judges or their names, the deciding one first; by default those of the base's world,
    and a base of no known world is "not checked". `retained` is what must be kept, by default the rest of the
    base's world; `near` maps a concept's name to that of its neighbour among them, by default as the world
    declares it. `controls` are those of `open_control`; the base's own row, "none", is always there.
    `prompts_csv` takes the place of the bank's prompts; `extractor` gives the features of KID and distances,
    by default the first CLIP judge's model. Nothing is trained; weights are as before when the call returns.
    Raises UserError for what cannot be measured.
    """
    started = time.monotonic()
    concepts = _check(models, concepts, n)
    for spec in controls:
        check_control(spec) if isinstance(spec, str) else None
    opened = (
        default_judges(base)
        if judges is None
        else [open_judge(j, base) if isinstance(j, str) else j for j in judges]
    )
    bounds, sampling = bounds or Bounds(), sampling or Sampling()
    store = cache if isinstance(cache, PictureCache) else PictureCache(cache)
    bank = bank or load_bank("world" if getattr(base, "world", None) == "picture" else "general")
    kept = rest_of_world(base, concepts) if retained is None else _others(retained, concepts)
    words = {concept: words_of(base, concept) for concept in concepts}
    each = max(4, n // 8) if each is None else each
    near_n = n // 2 if near_n is None else near_n
    plan = make_plan(
        concepts,
        bank,
        kept,
        near=neighbours(base, concepts, kept, near),
        n=n,
        each=each,
        near_n=near_n,
        seed=seed,
        forbidden=words,
        rows=None if prompts_csv is None else read_prompts(prompts_csv),
    )
    observer = Observer(opened, _names_by_kind(plan), extractor)
    table = _Table(
        plan, observer, opened, bounds, Painter(NONE, base, store, sampling, role="control"), progress
    )
    table.begin(len(models) + sum(spec != NONE for spec in controls))
    rows = [table.row(Painter(name, model, store, sampling)) for name, model in models.items()]
    rows.append(table.none())
    dropped = [word for concept in concepts for word in words[concept]]
    for spec in controls:
        if spec == NONE:
            continue
        with ExitStack() as stack:
            painter = stack.enter_context(
                open_control(
                    spec,
                    base,
                    concepts,
                    dropped,
                    cache=store,
                    sampling=sampling,
                    fingerprint=table.base.fingerprint,
                    seed=seed,
                )
            )
            rows.append(table.row(painter))
    return Evaluation(
        base=str(base.source),
        base_fingerprint=table.base.fingerprint,
        rows=rows,
        judges=[JudgeFacts(judge.name, judge.fingerprint, judge.threshold) for judge in opened],
        settings=Settings(
            n=n,
            each=each,
            near_n=near_n,
            seed=seed,
            steps=sampling.steps,
            guidance=sampling.guidance,
            sampler=str(getattr(base, "sampler", "ddim")),
            prompts_csv=None if prompts_csv is None else Path(prompts_csv).name,
            retained={
                kind: [c.name for c in kept if c.kind == kind] for kind in dict.fromkeys(c.kind for c in kept)
            },
        ),
        bounds=bounds,
        complaints=misordered(rows),
        notes=[*plan.notes, *_uncovered(opened, concepts)],
        record=record(seed=seed),
        seconds=round(time.monotonic() - started, 3),
        samples=table.samples,
    )


class _Table:
    """Makes row after row, the base's observations being taken once."""

    def __init__(
        self,
        plan: Plan,
        observer: Observer,
        judges: Sequence[Judge],
        bounds: Bounds,
        base: Painter,
        progress: Listener | None,
    ) -> None:
        self.plan, self.observer, self.judges, self.bounds = plan, observer, judges, bounds
        self.base = base
        self.samples: list[dict[str, Any]] = []
        self._progress = progress
        self._done = self._total = 0
        self._base_seen: Observations = {}
        self._base_seconds = 0.0

    def begin(self, rows: int) -> None:
        """Draw the base's pictures; `rows` further rows are to come."""
        shared = sum(map(len, self.plan.shared))
        self._total = shared * (rows + 1) + sum(map(len, self.plan.base_only))
        started = time.monotonic()
        sets = (*self.plan.shared, *self.plan.base_only)
        self._base_seen = self.observer.observe(self.base, sets, done=self._told(self.base.name))
        self._base_seconds = time.monotonic() - started

    def none(self) -> Row:
        """The base's own row."""
        return self._figures(self.base, self._base_seen, self._base_seconds)

    def row(self, painter: Painter) -> Row:
        """The row of any other painter."""
        started = time.monotonic()
        seen = self.observer.observe(
            painter, self.plan.shared, against=self.base, done=self._told(painter.name)
        )
        return self._figures(painter, seen, time.monotonic() - started)

    def _figures(self, painter: Painter, seen: Observations, seconds: float) -> Row:
        clip = self.observer.clip.clip.name if self.observer.clip else None
        extractor = self.observer.extractor.name if self.observer.extractor else None
        self.samples += _samples(painter.name, self.plan, seen)
        return Row(
            name=painter.name,
            role=painter.role,
            fingerprint=painter.fingerprint,
            concepts=[
                concept_figures(
                    concept, self.plan, self.judges, seen, self._base_seen, bounds=self.bounds, clip=clip
                )
                for concept in self.plan.concepts
            ],
            fidelity=fidelity_figures(self.plan, seen, self._base_seen, extractor),
            seconds=round(seconds, 3),
        )

    def _told(self, who: str) -> Callable[[int], None]:
        def told(count: int) -> None:
            self._done += count
            if self._progress is not None:
                self._progress(self._done, self._total, who)

        return told


def _check(models: Mapping[str, Any], concepts: Sequence[Concept], n: int) -> list[Concept]:
    if not models:
        raise UserError("evaluate: no model was given to measure")
    if not concepts:
        raise UserError("evaluate: no concept was given; name what was erased")
    if n < 1:
        raise UserError(f"evaluate: n must be at least 1 picture a concept; found {n}")
    if len(set(concepts)) != len(concepts):
        raise UserError("evaluate: a concept is named twice")
    return list(concepts)


def _others(retained: Iterable[Concept], concepts: Sequence[Concept]) -> list[Concept]:
    erased = {(concept.kind, concept.name) for concept in concepts}
    return [other for other in retained if (other.kind, other.name) not in erased]


def _names_by_kind(plan: Plan) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for concept in (*plan.concepts, *(item.concept for item in plan.retained)):
        found.setdefault(concept.kind, []).append(concept.name)
    return found


def _uncovered(judges: Sequence[Judge], concepts: Sequence[Concept]) -> list[str]:
    return [
        f"{concept.name}: not checked, no judge covers it"
        for concept in concepts
        if not covering(judges, concept)
    ]


def _samples(row: str, plan: Plan, seen: Observations) -> list[dict[str, Any]]:
    sets = [item for item in (*plan.shared, *plan.anchors) if item.key in seen]
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
