"""An evaluation written with another floor, ruled again: counts are kept, the base draws what is missing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from oubliette.core.errors import UserError
from oubliette.core.numbers import percent
from oubliette.data.concept import Concept
from oubliette.data.wording import wording_of
from oubliette.eval.control_order import misordered
from oubliette.eval.controls import GOLD, NONE
from oubliette.eval.floor import ground_of
from oubliette.eval.judge import Judge, default_judges
from oubliette.eval.leakage import ON_ANCHOR, Leakage
from oubliette.eval.pictures.evaluator import plan_for
from oubliette.eval.pictures.sampling import Sampling
from oubliette.eval.plan import Bank, Plan
from oubliette.eval.remarks import remarks
from oubliette.eval.result import ConceptFigures, Evaluation, Row
from oubliette.eval.sample_store import SampleStore
from oubliette.eval.sampler import CachedSampler
from oubliette.eval.statistics import Rate, ratio_above_floor
from oubliette.eval.verdict import decide
from oubliette.world.facts import BROADER

__all__ = ["is_old", "rerule"]


def is_old(evaluation: Evaluation) -> bool:
    """Whether a floor of it is the anchor's rate, as all were before the floor was taken elsewhere."""
    return any(
        figure.ground == ON_ANCHOR for row in evaluation.rows for f in row.concepts for figure in f.leakage
    )


def rerule(
    evaluation: Evaluation,
    base: Any,
    *,
    judges: Sequence[Judge] | None = None,
    cache: SampleStore | None = None,
    bank: Bank | None = None,
) -> Evaluation:
    """The evaluation with the floor taken where each concept is certainly absent: leakage, verdicts, remarks.

    Only the base draws, and only the floor's pictures, as its settings say; `judges` are those it was judged
    by, by default the base's world's. UserError where the base is another one or a judge is not there.
    """
    settings = evaluation.settings
    sampling = Sampling(settings.steps, settings.guidance)
    painter = CachedSampler(NONE, base, cache or SampleStore(), sampling, role="control")
    if painter.fingerprint != evaluation.base_fingerprint:
        raise UserError(
            f"evaluation: was made of another base ({evaluation.base_fingerprint[:12]}) than {base.source}"
        )
    opened = {judge.name: judge for judge in (default_judges(base) if judges is None else judges)}
    wanted = {figure.judge for row in evaluation.rows for f in row.concepts for figure in f.leakage}
    if wanted - set(opened):
        raise UserError(f"evaluation: its judge {sorted(wanted - set(opened))[0]} is not among those given")
    kept = [Concept(name, BROADER[kind], kind) for kind, names in settings.retained.items() for name in names]
    plan = plan_for(
        base,
        [Concept(f.name, f.anchor, f.kind) for f in evaluation.rows[0].concepts],
        n=settings.n,
        each=settings.each,
        near_n=settings.near_n,
        seed=settings.seed,
        retained=kept,
        bank=bank,
    )
    gold = next((row for row in evaluation.rows if row.role == "control" and row.name == GOLD), None)
    rows = [
        replace(
            row,
            concepts=[
                _ruled(f, plan, painter, opened, None if gold is None else gold.concepts[i], evaluation, row)
                for i, f in enumerate(row.concepts)
            ],
        )
        for row in evaluation.rows
    ]
    before = set(remarks(evaluation.rows, evaluation.bounds))
    notes = [note for note in evaluation.notes if note not in before]
    return replace(
        evaluation,
        rows=rows,
        complaints=misordered(rows),
        notes=[*notes, *remarks(rows, evaluation.bounds)],
    )


def _ruled(
    figures: ConceptFigures,
    plan: Plan,
    painter: CachedSampler,
    judges: dict[str, Judge],
    gold: ConceptFigures | None,
    evaluation: Evaluation,
    row: Row,
) -> ConceptFigures:
    concept = Concept(figures.name, figures.anchor, figures.kind)
    found = []
    for figure in figures.leakage:
        absent = plan.absent_of(concept, figure.split)
        hits = None
        if absent is not None:
            painter.fill(absent.prompts, absent.seeds)
            pictures = painter.recall(absent.prompts, absent.seeds)
            hits = np.asarray(judges[figure.judge].hits(pictures, concept), dtype=bool)
        own = None if gold is None else gold.leakage_of(figure.split, figure.judge)
        found.append(_refloored(figure, hits, None if own is None else own.rate, figures.kind))
    deciding = [figure for figure in found if figure.judge == figures.judge]
    is_gold = row.role == "control" and row.name == GOLD
    verdict = (
        decide(deciding, figures.utility, evaluation.bounds, gold=is_gold, words=wording_of(figures.kind))
        if deciding
        else None
    )
    return replace(figures, leakage=found, verdict=verdict or figures.verdict)


def _refloored(figure: Leakage, absent: np.ndarray | None, gold: Rate | None, kind: str) -> Leakage:
    old = figure.floor if figure.anchor is None else figure.anchor
    ground = ground_of(
        absent,
        None if gold is None else np.arange(gold.n) < gold.hits,
        np.arange(old.n) < old.hits,
        kind,
    )
    floor = Rate.mean(ground.hits)
    estimate = ratio_above_floor(figure.rate, figure.base, floor)
    note = ""
    if estimate is None:
        note = (
            f"the base shows the concept in {percent(figure.base.value)} of pictures and the floor is "
            f"{percent(floor.value)}"
        )
    anchor = None if ground.words == ON_ANCHOR else old
    return replace(figure, floor=floor, leakage=estimate, note=note, anchor=anchor, ground=ground.words)
