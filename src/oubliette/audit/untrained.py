"""Rows that train nothing: searches for prompts, and probes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from oubliette.audit.attack_cache import AttackRun, Exhibit, RowOutput, key_of
from oubliette.audit.context import AuditContext, excess
from oubliette.audit.leakage_meter import is_broken, painter_of
from oubliette.audit.resolve import changes_weights, make_probe
from oubliette.audit.result import GOLD, MODEL, PARTS, Found, RowResult, part_of
from oubliette.audit.samples import LINES, curve_exhibits, exhibits_of, said
from oubliette.audit.suite import ProbeRow, PromptsRow
from oubliette.eval.sample_store import SampleStore
from oubliette.eval.sampler import CachedSampler
from oubliette.eval.statistics import Rate, ratio_above_floor

__all__ = ["finding", "probing", "prompting"]

_BROKEN = "this itself broke the model, whose silence then says nothing"


def prompting(row: RowResult, spec: PromptsRow, bench: AuditContext) -> RowOutput:
    """Run a search for prompts: pre-ASR, ASR, the prompts as the field's CSV."""
    tries = 1 + bench.driver.tries(spec)

    def make(subject: str, painter: CachedSampler) -> AttackRun:
        found = bench.driver.search(spec, painter.model, hits=bench.meter.found, seed=bench.seed)
        after = np.array([row.before or row.after for row in found])
        best = [made for made in found if made.after and not made.before]
        made = finding(
            subject,
            after,
            bench,
            tries=tries,
            before=Rate.mean(np.array([row.before for row in found])),
            facts={"tries": float(np.mean([row.tries for row in found]))},
            best=[row.text for row in best[:10]],
        )
        return AttackRun(
            found=[made],
            hits=[[int(hit) for hit in after]],
            samples=[
                {
                    "prompt": row.prompt,
                    "original": row.case.prompt,
                    "seed": row.case.seed,
                    "before": bool(row.before),
                    "hit": bool(row.after),
                    "tries": row.tries,
                    **({"opening": row.opening} if row.opening else {}),
                    **said(row.last),
                }
                for row in found
            ],
            exhibits=_prompt_exhibits((best or list(found))[:LINES], subject),
            csv=bench.driver.csv(spec, found),
        )

    result, parts, output = _attacked(row, spec, bench, make)
    name = f"prompts/{row.id}.csv"
    return replace(output, row=replace(result, files=[name]), files={name: parts[MODEL].csv})


def _prompt_exhibits(found: Sequence[Any], subject: str) -> list[Exhibit]:
    """What the original and the prompt found in its place made of the same seed."""
    seeds = [row.case.seed for row in found]
    asked = exhibits_of(
        [row.first for row in found],
        [row.case.prompt for row in found],
        seeds,
        [row.before for row in found],
        subject=subject,
        column="asked",
    )
    return asked + exhibits_of(
        [row.last for row in found],
        [row.text for row in found],
        seeds,
        [row.after for row in found],
        subject=subject,
        column="found",
    )


def probing(row: RowResult, spec: ProbeRow, bench: AuditContext) -> RowOutput:
    """Run a probe; every ratio of a completion, or block that is read, is a figure of its own."""
    if changes_weights(spec):
        return _altering(row, spec, bench)

    def make(subject: str, painter: CachedSampler) -> AttackRun:
        shown = bench.driver.probe(spec, painter.model, hits=bench.meter.found, seed=bench.seed)
        hits = bench.meter.found(shown.samples)
        part = AttackRun()
        for where, mask in _groups(shown):
            facts = {**shown.facts, **{k: float(np.mean(np.array(v)[mask])) for k, v in shown.each.items()}}
            made = finding(subject, hits[mask], bench, tries=shown.best_of, facts=facts)
            picked = np.flatnonzero(mask)[:LINES]
            part.found.append(made)
            part.hits.append([int(hit) for hit in hits[mask]])
            part.exhibits.extend(
                exhibits_of(
                    shown.samples[picked],
                    [shown.prompts[i] for i in picked],
                    [shown.seeds[i] for i in picked],
                    hits[picked],
                    subject=subject,
                    column=where or "shown",
                )
            )
            part.samples.extend(
                {
                    "where": where,
                    "prompt": shown.prompts[i],
                    "seed": int(shown.seeds[i]),
                    "hit": bool(hits[i]),
                    **said(shown.samples[i]),
                }
                for i in np.flatnonzero(mask)
            )
        return part

    return _attacked(row, spec, bench, make)[2]


def _altering(row: RowResult, spec: ProbeRow, bench: AuditContext) -> RowOutput:
    """Run a probe that changes weights: the meter looks at a subject as it is, and as it is then."""
    probe, meter = make_probe(spec), bench.meter

    def make(subject: str, painter: CachedSampler) -> AttackRun:
        before = meter.look(painter)
        with probe.altered(painter.model) as facts:
            # Samples of altered weights serve nobody else: they are not kept.
            altered = painter_of(
                subject, painter.model, bench.base, fingerprint=spec.probe, cache=SampleStore()
            )
            after = meter.look(altered)
        if after.kept is not None:
            facts["kept"] = after.kept.value
        exhibits = [
            made
            for column, drawn, look in (("as it is", painter, before), (spec.probe, altered, after))
            for made in curve_exhibits(meter, drawn, subject, column, look.hits)
        ]
        return AttackRun(
            found=[finding(subject, after.hits, bench, tries=1, before=before.rate, facts=facts)],
            hits=[[int(hit) for hit in after.hits]],
            samples=meter.lines(after),
            exhibits=exhibits,
            note=_BROKEN if is_broken(after.kept, bench.suite.limits.destroyed) else "",
        )

    result, parts, output = _attacked(row, spec, bench, make)
    return replace(output, row=replace(result, note=parts[MODEL].note))


def _groups(shown: Any) -> list[tuple[str, np.ndarray]]:
    """The parts of what a probe showed that are figures of their own, by name, and which samples they are."""
    split = {key: shown.each[key] for key in PARTS if key in shown.each}
    own = [tuple(values[i] for values in split.values()) for i in range(len(shown.samples))]
    return [
        (part_of(dict(zip(split, part, strict=True))), np.array([one == part for one in own]))
        for part in dict.fromkeys(own)
    ]


def _attacked(
    row: RowResult, spec: Any, bench: AuditContext, make: Callable[[str, CachedSampler], AttackRun]
) -> tuple[RowResult, dict[str, AttackRun], RowOutput]:
    """Prompts or probe on every subject, and what the model shows above gold, case by case."""
    parts: dict[str, AttackRun] = {}
    for one in bench.subjects(spec):
        subject, painter = one.name, one.painter
        bench.tell(subject, len(parts) / len(bench.subjects(spec)))
        key = key_of(
            row=spec.model_dump(exclude={"name", "gold"}),
            meter=bench.meter.facts(),
            data=bench.driver.facts(spec, bench.seed),
            subject=painter.fingerprint,
            seed=bench.seed,
        )

        def of_subject(subject: str = subject, painter: CachedSampler = painter) -> AttackRun:
            return make(subject, painter)

        parts[subject] = bench.parts.get(key, of_subject, keep=subject == GOLD)
    found = [replace(made, subject=subject) for subject, part in parts.items() for made in part.found]
    above = []
    if GOLD in parts and bench.meter.span > 0:
        for made, own, other in zip(parts[MODEL].found, parts[MODEL].hits, parts[GOLD].hits, strict=True):
            above.append(excess(np.array(own), np.array(other), bench.meter.span, made.where))
    result = replace(row, found=found, excess=above)
    samples = [
        {"audit_row": row.id, "subject": subject, **sample}
        for subject, part in parts.items()
        for sample in part.samples
    ]
    exhibits = [replace(made, subject=name) for name, part in parts.items() for made in part.exhibits]
    return result, parts, RowOutput(result, samples, exhibits, 0.0)


def finding(
    subject: str,
    hits: np.ndarray,
    bench: AuditContext,
    *,
    tries: float,
    facts: dict[str, float],
    before: Rate | None = None,
    best: Sequence[str] = (),
) -> Found:
    """A finding; its floor is what so many tries show by chance, 1 - (1 - floor)^tries."""
    floor = _raised(bench.meter.floor, tries)
    after = Rate.mean(hits)
    leakage = ratio_above_floor(after, bench.meter.base_rate, floor)
    return Found(subject, before, after, leakage, floor.value, tries, dict(facts), list(best))


def _raised(floor: Rate, tries: float) -> Rate:
    def up(share: float) -> float:
        return float(1 - (1 - share) ** tries)

    return replace(floor, value=up(floor.value), low=up(floor.low), high=up(floor.high))
