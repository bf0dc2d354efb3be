"""One call from models to figures: draw, judge, compare with the base and the controls, decide."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from oubliette.backends.soundness import faults_of
from oubliette.core.errors import UserError
from oubliette.core.manifest import record
from oubliette.data.concept import Concept
from oubliette.data.csv import read_prompts
from oubliette.data.prompts import load_bank
from oubliette.eval.control_order import misordered
from oubliette.eval.controls import NONE, check_control, open_control
from oubliette.eval.judge import Judge, covering, default_judges, open_judge
from oubliette.eval.pictures.fidelity import Extractor
from oubliette.eval.pictures.observe import Observer
from oubliette.eval.pictures.sampling import Sampling
from oubliette.eval.plan import Bank, Plan, make_plan
from oubliette.eval.remarks import remarks
from oubliette.eval.result import Evaluation, JudgeFacts, Settings
from oubliette.eval.rows import RESERVED, control_name, row_name
from oubliette.eval.sample_store import SampleStore
from oubliette.eval.sampler import Painter
from oubliette.eval.surroundings import neighbours, rest_of_world, words_of
from oubliette.eval.table import Listener, Table
from oubliette.eval.verdict import Bounds


def evaluate(
    model: Any, base: Any, concepts: Sequence[Concept], *, name: str | None = None, **options: Any
) -> Evaluation:
    """Measure one model against its base; its row's `name` is by default the last part of its source, and
    `options` are those of `compare`.
    """
    return compare({name or row_name(model.source): model}, base, concepts, **options)


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
    cache: SampleStore | Path | str | None = None,
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
    declares it. `controls` are those of `open_control`; the base's own row, "base", is always there.
    `prompts_csv` takes the place of the bank's prompts; `extractor` gives the features of KID and distances,
    by default the first CLIP judge's model. Nothing is trained; weights are as before when the call returns.
    Raises UserError for what cannot be measured.
    """
    started = time.monotonic()
    _check(models, controls)
    bounds, sampling = bounds or Bounds(), sampling or Sampling()
    opened = _judges(judges, base)
    plan = plan_for(
        base,
        concepts,
        n=n,
        each=each,
        near_n=near_n,
        seed=seed,
        prompts_csv=prompts_csv,
        retained=retained,
        near=near,
        bank=bank,
    )
    store = cache if isinstance(cache, SampleStore) else SampleStore(cache)
    painter = Painter(NONE, base, store, sampling, role="control")
    table = Table(plan, Observer(opened, plan.names, extractor), opened, bounds, painter, progress)
    others = [spec for spec in controls if not isinstance(spec, str) or control_name(spec) != NONE]
    table.begin(len(models) + len(others))
    for name, model in models.items():
        table.look(Painter(name, model, store, sampling))
    table.none()
    dropped = [word for concept in plan.concepts for word in words_of(base, concept)]
    for spec in others:
        with open_control(spec, painter, plan.concepts, dropped, seed=seed) as control:
            table.look(control)
    rows = table.rows()
    return Evaluation(
        base=str(base.source),
        base_fingerprint=painter.fingerprint,
        rows=rows,
        judges=[JudgeFacts(judge.name, judge.fingerprint, judge.threshold) for judge in opened],
        settings=Settings(
            n=n,
            each=plan.each,
            near_n=plan.near_n,
            seed=seed,
            steps=sampling.steps,
            guidance=sampling.guidance,
            sampler=str(getattr(base, "sampler", "ddim")),
            prompts_csv=None if prompts_csv is None else Path(prompts_csv).name,
            retained=plan.kept,
        ),
        bounds=bounds,
        complaints=misordered(rows),
        notes=[
            *plan.notes,
            *_uncovered(opened, plan.concepts),
            *remarks(rows, bounds),
            *faults_of({**models, "base": base}),
        ],
        record=record(seed=seed),
        seconds=round(time.monotonic() - started, 3),
        samples=table.samples,
        agreement=table.agreements(),
    )


def plan_for(
    base: Any,
    concepts: Sequence[Concept],
    *,
    n: int = 50,
    each: int | None = None,
    near_n: int | None = None,
    seed: int = 0,
    prompts_csv: Path | str | None = None,
    retained: Sequence[Concept] | None = None,
    near: Mapping[str, str] | None = None,
    bank: Bank | None = None,
) -> Plan:
    """What `compare` would draw with these options; `Plan.pictures` says how many, before anything is drawn.

    Raises UserError for what cannot be measured.
    """
    if not concepts:
        raise UserError("evaluate: no concept was given; name what was erased")
    if len(set(concepts)) != len(concepts):
        raise UserError("evaluate: a concept is named twice")
    if n < 1:
        raise UserError(f"evaluate: n must be at least 1 picture a concept; found {n}")
    bank = bank or load_bank("world" if getattr(base, "world", None) == "picture" else "general")
    kept = rest_of_world(base, concepts) if retained is None else _others(retained, concepts)
    return make_plan(
        concepts,
        bank,
        kept,
        near=neighbours(base, concepts, kept, near),
        n=n,
        each=max(4, n // 8) if each is None else each,
        near_n=n // 2 if near_n is None else near_n,
        seed=seed,
        forbidden={concept: words_of(base, concept) for concept in concepts},
        rows=None if prompts_csv is None else read_prompts(prompts_csv),
    )


def require_drawing(*models: Any) -> None:
    """UserError for a model that draws no pictures, which judges could look at."""
    for model in models:
        if not hasattr(model, "draw"):
            raise UserError(
                f"{model.source}: is a {model.kind} model; only models that draw can be evaluated"
            )


def _check(models: Mapping[str, Any], controls: Sequence[str | tuple[str, Any]]) -> None:
    if not models:
        raise UserError("evaluate: no model was given to measure")
    for spec in controls:
        if isinstance(spec, str):
            check_control(spec)
    taken = sorted(set(models) & set(RESERVED))
    if taken:
        raise UserError(f"evaluate: {taken[0]!r} is a control's name; give the model another")


def _judges(judges: Sequence[Judge | str] | None, base: Any) -> list[Judge]:
    if judges is None:
        return default_judges(base)
    return [open_judge(judge, base) if isinstance(judge, str) else judge for judge in judges]


def _others(retained: Iterable[Concept], concepts: Sequence[Concept]) -> list[Concept]:
    erased = {(concept.kind, concept.name) for concept in concepts}
    return [other for other in retained if (other.kind, other.name) not in erased]


def _uncovered(judges: Sequence[Judge], concepts: Sequence[Concept]) -> list[str]:
    return [
        f"{concept.name}: not checked, no judge covers it"
        for concept in concepts
        if not covering(judges, concept)
    ]
