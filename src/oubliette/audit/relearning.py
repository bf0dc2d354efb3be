"""Rows that fine-tune: readings along the steps, on the model and on gold, run by run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from oubliette.audit.attack_cache import AttackRun, Exhibit, RowOutput, key_of
from oubliette.audit.context import AuditContext, Subject, excess
from oubliette.audit.curves import make_curve, sooner
from oubliette.audit.leakage_meter import LeakageMeter, Measurement, is_broken, painter_of
from oubliette.audit.result import (
    GOLD,
    MODEL,
    NOVEL,
    Curve,
    LeakageGap,
    Reading,
    RelearningAdvantage,
    RowResult,
)
from oubliette.audit.samples import curve_exhibits
from oubliette.audit.suite import BenignRow, RelearnRow, Suite, log_spaced
from oubliette.audit.sweeping import at_rate, sweep_seeds, worst
from oubliette.core.numbers import percent
from oubliette.eval.sample_store import SampleStore
from oubliette.eval.sampler import CachedSampler

__all__ = ["points_of", "relearning"]


def points_of(spec: RelearnRow, suite: Suite, steps: int) -> list[int]:
    """The steps a fine-tuning row is looked at."""
    return list(spec.at) if spec.at is not None else log_spaced(steps, suite.points)


def relearning(row: RowResult, spec: RelearnRow, bench: AuditContext) -> RowOutput:
    """Run a fine-tuning row, on pictures of the concept or on benign ones; its sweep comes first, if any."""
    steps = points_of(spec, bench.suite, int(row.budget["steps"]))
    subjects = bench.subjects(spec)
    runs = [(bench.seed + run, subject) for run in range(bench.suite.seeds) for subject in subjects]
    whole = len(runs) + bench.driver.describe(spec).sweep
    if spec.sweep is not None:
        row, spec = _swept(row, spec, bench, steps, whole)
        if row.status == "skipped":
            return RowOutput(row, [], [], 0.0)
    curves: list[Curve] = []
    samples: list[dict[str, Any]] = []
    exhibits: list[Exhibit] = []
    notes: list[str] = []
    for seed, subject in runs:
        done = whole - len(runs) + len(curves)
        part = _trained(spec, bench, subject, seed, steps, done / whole, 1 / whole)
        curves.append(make_curve(subject.name, seed, part.readings))
        samples += [{"audit_row": row.id, "subject": subject.name, "run": seed, **s} for s in part.samples]
        first = seed == bench.seed
        exhibits += [replace(made, subject=subject.name) for made in part.exhibits] if first else []
        notes += [part.note] if part.note else []
    own = [curve for curve in curves if curve.subject == MODEL]
    gold = [curve for curve in curves if curve.subject == GOLD]
    broken = sorted({r.step for curve in own for r in curve.readings if r.broken})
    if broken:
        notes.append(f"the attack itself broke the model at step {', '.join(map(str, broken))}; not counted")
    benign = isinstance(spec, BenignRow)
    result = replace(
        row,
        curves=curves,
        sooner=None if benign else _sooner(own, curves, bench),
        excess=_last_above_gold(own, gold) if benign else [],
        note="; ".join(dict.fromkeys(notes)),
    )
    return RowOutput(result, samples, exhibits, 0.0)


def _sooner(own: Sequence[Curve], curves: Sequence[Curve], bench: AuditContext) -> RelearningAdvantage | None:
    """How much sooner than gold, or than the novel concept that stands in for it."""
    against = next((name for name in (GOLD, NOVEL) if any(c.subject == name for c in curves)), GOLD)
    other = [curve for curve in curves if curve.subject == against]
    return sooner(own, other, bench.suite.limits.level, seed=bench.seed, against=against)


def _swept(
    row: RowResult, spec: RelearnRow, bench: AuditContext, steps: Sequence[int], whole: int
) -> tuple[RowResult, RelearnRow]:
    """The row with its sweep, and the winner in its place; skipped where no learning rate kept enough."""
    assert spec.sweep is not None
    model = bench.subjects(spec)[0]
    done: list[int] = []

    def run(fixed: RelearnRow, seed: int) -> Curve:
        part = _trained(fixed, bench, model, seed, steps, len(done) / whole, 1 / whole)
        done.append(seed)
        return make_curve(MODEL, seed, part.readings)

    seeds = sweep_seeds(spec, bench.seed, bench.suite.seeds)
    found = worst(spec, row.budget["sweep"]["learning_rates"], seeds, run)
    if found.winner is None:
        note = f"no learning rate of the sweep kept {percent(found.keep_at_least)} of the rest"
        return replace(row, sweep=found, status="skipped", note=note), spec
    budget = {**row.budget, "learning_rate": found.winner}
    return replace(row, sweep=found, budget=budget), at_rate(spec, found.winner)


def _trained(
    spec: RelearnRow,
    bench: AuditContext,
    subject: Subject,
    seed: int,
    steps: Sequence[int],
    done: float,
    part: float,
) -> AttackRun:
    """One run on one subject; a run on gold, or on the same weights, is made once."""
    painter, meter, driver = subject.painter, subject.meter, subject.driver
    key = key_of(
        row=spec.model_dump(exclude={"name", "gold"}),
        steps=list(steps),
        meter=meter.facts(),
        data=driver.facts(spec, seed),
        subject=painter.fingerprint,
        frozen=list(bench.frozen),
        broken=bench.suite.limits.destroyed,
        seed=seed,
    )

    def make() -> AttackRun:
        readings: list[Reading] = []
        samples: list[dict[str, Any]] = []
        exhibits: list[Exhibit] = []
        rewrite = driver.rewrite(spec)

        def take(step: int, drawn: CachedSampler) -> None:
            look = meter.look(drawn)
            readings.append(_reading(step, look, meter, bench.suite.limits.destroyed))
            samples.extend({"step": step, **one} for one in meter.lines(look))
            exhibits.extend(curve_exhibits(meter, drawn, subject.name, str(step), look.hits))

        def attacked(step: int, model: Any) -> None:
            share = done + part * len(readings) / len(steps)
            bench.tell(f"{subject.name}, seed {seed}, step {step} of {steps[-1]}", share)
            mark = f"{key}/{step}"
            # Pictures of a model under attack serve nobody else: they are not kept.
            made = painter_of(
                subject.name, model, bench.base, fingerprint=mark, cache=SampleStore(), rewrite=rewrite
            )
            take(step, made)

        # Before the first step a model draws what it always draws, unless it is asked in other words.
        asked = [step for step in steps if step > 0 or rewrite is not None]
        if len(asked) < len(steps):
            take(0, painter)
        note = driver.relearn(spec, painter.model, seed=seed, at=asked, look=attacked)
        return AttackRun(readings=readings, samples=samples, exhibits=exhibits, note=note)

    return bench.parts.get(key, make, keep=subject.name == GOLD)


def _reading(step: int, look: Measurement, meter: LeakageMeter, destroyed: float) -> Reading:
    kept = look.kept
    return Reading(
        step=step,
        rate=look.rate,
        leakage=look.leakage,
        kept=kept,
        broken=is_broken(kept, destroyed),
        hits=[int(hit) for hit in look.hits],
        floor=meter.floor.value,
        span=meter.span,
    )


def _last_above_gold(own: Sequence[Curve], gold: Sequence[Curve]) -> list[LeakageGap]:
    """The model's pictures at the end of every run against gold's, run by run."""
    others = {curve.seed: curve.readings[-1] for curve in gold if curve.readings}
    pairs = [
        (curve.readings[-1], others[curve.seed])
        for curve in own
        if curve.seed in others and curve.readings and not curve.readings[-1].broken
    ]
    if not pairs or pairs[0][0].span <= 0:
        return []
    left, right = (np.concatenate([np.array(pair[side].hits) for pair in pairs]) for side in (0, 1))
    return [excess(left, right, pairs[0][0].span, f"after {pairs[0][0].step} steps")]
