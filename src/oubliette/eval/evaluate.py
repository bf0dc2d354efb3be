"""One call from models to figures: draw, judge, compare with the base and the controls, decide."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from oubliette.backends.soundness import faults_of
from oubliette.core.errors import UserError
from oubliette.core.manifest import record
from oubliette.data.concept import Concept
from oubliette.eval.control_order import misordered
from oubliette.eval.controls import GOLD, NONE, check_control, gold_opened, open_control
from oubliette.eval.evaluator import Evaluator
from oubliette.eval.judge import Judge, covering
from oubliette.eval.pictures.evaluator import PictureEvaluator
from oubliette.eval.pictures.fidelity import Extractor
from oubliette.eval.pictures.observe import Observer
from oubliette.eval.pictures.sampling import Sampling
from oubliette.eval.plan import Bank
from oubliette.eval.remarks import remarks
from oubliette.eval.result import Evaluation, JudgeFacts, Settings
from oubliette.eval.rows import RESERVED, control_name, row_name
from oubliette.eval.sample_store import SampleStore
from oubliette.eval.sampler import CachedSampler
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
    evaluator = PictureEvaluator(
        base,
        concepts,
        judges=judges,
        prompts_csv=prompts_csv,
        retained=retained,
        near=near,
        bank=bank,
        sampling=sampling,
        extractor=extractor,
    )
    return measure(
        models,
        base,
        evaluator,
        n=n,
        each=each,
        near_n=near_n,
        seed=seed,
        cache=cache,
        controls=controls,
        bounds=bounds,
        progress=progress,
    )


def measure(
    models: Mapping[str, Any],
    base: Any,
    evaluator: Evaluator,
    *,
    n: int = 50,
    each: int | None = None,
    near_n: int | None = None,
    seed: int = 0,
    cache: SampleStore | Path | str | None = None,
    controls: Sequence[str | tuple[str, Any]] = (),
    bounds: Bounds | None = None,
    progress: Listener | None = None,
) -> Evaluation:
    """Measure models of any modality against their base with its evaluator; the options are `compare`'s."""
    started = time.monotonic()
    _check(models, controls)
    bounds = bounds or Bounds()
    plan = evaluator.plan(n=n, each=each, near_n=near_n, seed=seed)
    judges, sampling = evaluator.judges, evaluator.sampling
    store = cache if isinstance(cache, SampleStore) else SampleStore(cache)
    painter = CachedSampler(NONE, base, store, sampling, role="control")
    named = [spec.partition("=")[0] if isinstance(spec, str) else spec[0] for spec in controls]
    meter, remarked = evaluator.meter(n=n, seed=seed, gold=GOLD in named)
    observer = Observer(judges, plan.names, evaluator.extractor)
    table = Table(plan, observer, judges, bounds, painter, progress, meter)
    others = [
        gold_opened(spec, base, plan.concepts)
        for spec in controls
        if not isinstance(spec, str) or control_name(spec) != NONE
    ]
    for model in (*models.values(), *(spec[1] for spec in others if not isinstance(spec, str))):
        sampling.check(model)
    table.begin(len(models) + len(others))
    for name, model in models.items():
        table.look(CachedSampler(name, model, store, sampling))
    table.none()
    for spec in others:
        with open_control(spec, painter, plan.concepts, evaluator.words, seed=seed) as control:
            table.look(control)
    rows = table.rows()
    return Evaluation(
        base=str(base.source),
        base_fingerprint=painter.fingerprint,
        rows=rows,
        judges=[JudgeFacts(judge.name, judge.fingerprint, judge.threshold) for judge in judges],
        settings=Settings(
            n=n, each=plan.each, near_n=plan.near_n, seed=seed, retained=plan.kept, **evaluator.settings()
        ),
        bounds=bounds,
        complaints=misordered(rows),
        notes=[
            *plan.notes,
            *remarked,
            *_uncovered(judges, plan.concepts),
            *remarks(rows, bounds),
            *faults_of({**models, "base": base}),
        ],
        record=record(seed=seed),
        seconds=round(time.monotonic() - started, 3),
        samples=table.samples,
        agreement=table.agreements(),
        metrics=table.metrics(),
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


def _uncovered(judges: Sequence[Judge], concepts: Sequence[Concept]) -> list[str]:
    return [
        f"{concept.name}: not checked, no judge covers it"
        for concept in concepts
        if not covering(judges, concept)
    ]
