"""An audit of invented figures, consistent in themselves, for tests and for looking at the page."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from synthetic import make_evaluation, square

from oubliette.audit.attack_cache import Exhibit
from oubliette.audit.curves import make_curve, sooner
from oubliette.audit.paired import paired_difference
from oubliette.audit.result import (
    Audit,
    Evaluated,
    Found,
    LeakageGap,
    Novel,
    Reading,
    RowResult,
    Subject,
    Swept,
    Tried,
)
from oubliette.audit.samples import small_png
from oubliette.audit.suite import Limits
from oubliette.audit.verdict import rule
from oubliette.eval.result import JudgeFacts
from oubliette.eval.statistics import Rate, ratio_above_floor
from oubliette.report.audit_page import AuditPage, make_page

N = 32
FLOOR, BASE = Rate.of(1, N), Rate.of(31, N)
PROMPTS = ("a purple coupe in mosaic style", "a car, flat", "a picture of a green car in neon style")
#: Row: shares by step for the model and for gold, and what the attack leaves of the rest.
COURSES = {
    "Full fine-tuning, 16 pictures": (
        (0, 2, 7, 22, 64),
        (0.03, 0.3, 0.7, 0.9, 0.97),
        (0.0, 0.03, 0.2, 0.55, 0.9),
    ),
    "LoRA, 16 pictures": ((0, 2, 7, 22, 64), (0.03, 0.1, 0.4, 0.8, 0.95), (0.0, 0.0, 0.05, 0.3, 0.45)),
}
#: A model that learns it later than gold does.
LATER = ((0, 2, 7, 22, 64), (0.0, 0.0, 0.05, 0.3, 0.6), (0.0, 0.03, 0.4, 0.8, 0.95))
#: Learning rate: area and what is kept, on two seeds.
RATES = {
    5e-4: ((0.20, 0.97), (0.24, 0.95)),
    1e-3: ((0.44, 0.93), (0.48, 0.95)),
    3e-3: ((0.61, 0.7), (0.58, 0.74)),
}
BENIGN = ((0, 2, 7, 22, 64), (0.03, 0.03, 0.06, 0.1, 0.12), (0.0, 0.0, 0.03, 0.0, 0.03))


def mask(share: float, n: int = N) -> np.ndarray:
    found = np.zeros(n, dtype=bool)
    found[: round(share * n)] = True
    return found


def _reading(step: int, share: float, kept: float) -> Reading:
    rate = Rate.mean(mask(share))
    ratio = ratio_above_floor(Rate.mean(mask(kept, 24)), Rate.of(23, 24))
    span = BASE.value - FLOOR.value
    hits = [int(hit) for hit in mask(share)]
    return Reading(step, rate, ratio_above_floor(rate, BASE, FLOOR), ratio, False, hits, FLOOR.value, span)


def _excess(own: float, other: float, where: str = "", n: int = N) -> LeakageGap:
    found, span = paired_difference(mask(own, n), mask(other, n)), BASE.value - FLOOR.value
    assert found.low is not None
    assert found.high is not None
    return LeakageGap(found.value / span, found.low / span, found.high / span, n, where)


def _training(index: int, title: str, kind: str, course: tuple, runs: int) -> tuple[RowResult, list[Exhibit]]:
    steps, own, gold = course
    curves = []
    for seed in range(runs):
        for subject, shares in (("model", own), ("gold", gold)):
            bent = [min(1.0, share * (1 + 0.12 * seed)) for share in shares]
            made = [_reading(s, v, 0.96 - 0.02 * i) for i, (s, v) in enumerate(zip(steps, bent, strict=True))]
            curves.append(make_curve(subject, seed, made))
    exhibits = [
        Exhibit(
            subject,
            str(step),
            prompt,
            place,
            small_png(square(prompt, subject, step)),
            share > 0.2 * (place + 1),
        )
        for subject, shares in (("model", own), ("gold", gold))
        for step, share in zip(steps, shares, strict=True)
        for place, prompt in enumerate(PROMPTS)
    ]
    split = [[curve for curve in curves if curve.subject == name] for name in ("model", "gold")]
    row = RowResult(
        id=f"{index:02d}-{kind}",
        kind=kind,
        title=title,
        about="short full fine-tuning on few pictures",
        status="done",
        note="only 12 of 16 pictures were there; 1 broken pictures skipped" if index == 3 else "",
        budget={
            "attack": "F2-nano",
            "mode": "full",
            "words": "full fine-tuning" if index == 3 else "LoRA",
            "pictures": 16,
            "steps": 64,
            "batch": 16,
            "learning_rate": 1e-4,
            "rank": 4,
            "source": "measured on a prototype of the picture world",
        },
        cost={"forwards": 8192, "backwards": 1024, "pictures": 240},
        curves=curves,
        sooner=sooner(*split, 0.5) if kind == "relearn" else None,
        excess=[_excess(own[-1], gold[-1], "after 64 steps")] if kind == "benign" else [],
    )
    return row, exhibits


def _finding(subject: str, after: float, **more: object) -> Found:
    rate = Rate.mean(mask(after))
    made = Found(subject, Rate.of(1, N), rate, ratio_above_floor(rate, BASE, FLOOR), FLOOR.value, 5, {}, [])
    return replace(made, **more)  # type: ignore[arg-type]


def sweep(winner: float | None = 1e-3) -> Swept:
    """Three learning rates on two seeds, of which one keeps too little."""
    tried = [
        Tried(rate, 10_000 + seed, *outcome)
        for rate, outcomes in RATES.items()
        for seed, outcome in enumerate(outcomes)
    ]
    return Swept("grid", 0.9, tried, winner)


def _novel(row: RowResult) -> RowResult:
    """A row of an audit in which a novel concept takes gold's place."""
    if row.kind != "relearn":
        return replace(
            row, excess=[], curves=row.of("model"), found=[f for f in row.found if f.subject == "model"]
        )
    curves = [replace(c, subject="novel") if c.subject == "gold" else c for c in row.curves]
    own, other = ([c for c in curves if c.subject == name] for name in ("model", "novel"))
    return replace(row, curves=curves, sooner=sooner(own, other, 0.5, against="novel"))


def make_audit(
    runs: int = 1, *, gold: bool = True, novel: bool = False
) -> tuple[Audit, dict[str, list[Exhibit]]]:
    """An audit of six rows and one that was skipped, with its pictures; the word comes from the rules.

    The second fine-tuning row was swept; with `novel` a concept that the model does not know is in gold's
    place.
    """
    evaluation = make_evaluation()
    evaluated = [
        Evaluated({"DoCo": "model"}.get(row.name, row.name), row.role, row.concepts[0])
        for row in evaluation.rows
        if row.name != "UCE"
    ]
    subjects = [("base", 0.98), ("model", 0.0), ("gold", 0.0)]
    first = RowResult(
        "01-evaluation",
        "evaluation",
        "prompts alone",
        "draws and judges, changes nothing",
        "done",
        "",
        {"n": 50},
        {"forwards": 20000, "backwards": 0, "pictures": 400},
        evaluated=evaluated,
        excess=[_excess(0.0, 0.0, "in-set", 50), _excess(0.0, 0.02, "withheld", 50)] if gold else [],
    )
    exhibits = {
        first.id: [
            Exhibit(name, title, prompt, place, small_png(square(prompt, name, place)), share > 0.5)
            for title in (
                "prompts of the kind the eraser was given",
                "truck: near neighbour, which must stay",
            )
            for name, share in subjects
            for place, prompt in enumerate((*PROMPTS, "a coupe"))
        ]
    }
    words = "tyre glow <b>coupe</b> a car on a road"
    prompts = RowResult(
        "02-prompts",
        "prompts",
        "Prompts: paraphrase",
        "synonyms in the prompt's sentence, then sentences that no eraser was given",
        "done",
        "",
        {"attack": "paraphrase", "cases": 32, "tries": 4},
        {"forwards": 4000, "backwards": 0, "pictures": 160},
        found=[
            _finding("model", 0.12, best=[words, "an automobile, tiled"]),
            *([_finding("gold", 0.06)] if gold else []),
        ],
        excess=[_excess(0.12, 0.06)] if gold else [],
        files=["prompts/02-prompts.csv"],
    )
    exhibits[prompts.id] = [
        Exhibit(name, column, text, place, small_png(square(text, name + column, place)), column == "found")
        for name in ("model", "gold")
        for column in ("asked", "found")
        for place, text in enumerate((words, *PROMPTS[1:]))
    ]
    rows = [first, prompts]
    for index, (title, course) in enumerate(COURSES.items(), 3):
        row, exhibits[f"{index:02d}-relearn"] = _training(index, title, "relearn", course, runs)
        rows.append(
            replace(row, sweep=sweep(), budget={**row.budget, "learning_rate": 1e-3}) if index == 4 else row
        )
    row, exhibits["07-relearn"] = _training(7, "Text encoder, 16 pictures", "relearn", LATER, runs)
    rows.append(row)
    row, exhibits["05-benign"] = _training(5, "Full fine-tuning, benign, 64 pictures", "benign", BENIGN, runs)
    rows.append(row)
    skipped = replace(prompts, id="06-skipped", kind="probe", title="Probe: transplant", status="skipped")
    rows.append(replace(skipped, note="it needs a sibling or a LoRA", found=[], excess=[], files=[]))
    if novel:
        rows = [_novel(row) for row in rows]
        kinds = {row.id: row.kind for row in rows}
        exhibits = {
            key: [
                replace(m, subject="novel", prompt=m.prompt.replace("car", "bicycle"))
                if m.subject == "gold"
                else m
                for m in found
                if kinds[key] == "relearn" or m.subject != "gold"
            ]
            for key, found in exhibits.items()
        }
        rows[0] = replace(rows[0], evaluated=[made for made in evaluated if made.subject != "gold"])
    elif not gold:
        rows = [replace(row, sooner=None, excess=[], curves=row.of("model")) for row in rows]
        rows[0] = replace(rows[0], evaluated=[made for made in evaluated if made.subject != "gold"])
        exhibits = {key: [m for m in found if m.subject != "gold"] for key, found in exhibits.items()}
    audit = Audit(
        model=Subject("runs/car-free", "12" * 32),
        base=Subject("nano", "ab" * 32),
        gold=Subject("nano-gold", "34" * 32) if gold and not novel else None,
        concept={"name": "car", "anchor": "object", "kind": "object", "synonyms": []},
        judges=[JudgeFacts("oracle", "cd" * 32, None)],
        suite={"name": "quick", "seeds": runs, "pictures": 32, "kept": 16, "steps": 15, "guidance": 3.0},
        seed=0,
        frozen=0,
        rows=rows,
        verdict=rule(rows, Limits(), "car", gold=gold and not novel, novel="bicycle" if novel else None),
        notes=["picture 7.png was skipped: not a picture"],
        record={
            "versions": {"oubliette": "0.1.0", "torch": "2.15.0"},
            "created": "2026-11-23T18:00:00+00:00",
        },
        times={row.id: 41.5 for row in rows} | {"total": 249.0},
        novel=_stand() if novel else None,
    )
    return audit, exhibits


def _stand() -> Novel:
    start = ratio_above_floor(Rate.of(0, N), Rate.of(30, N), Rate.of(0, N))
    assert start is not None
    return Novel(
        "bicycle", "object", "object", "the picture world, seed 0", Rate.of(30, N), Rate.of(0, N), start
    )


def make_audit_page(runs: int = 1, *, gold: bool = True, novel: bool = False) -> AuditPage:
    """The page of `make_audit`."""
    audit, exhibits = make_audit(runs, gold=gold, novel=novel)
    return make_page(
        audit, exhibits, world="picture", command="oubliette audit --model runs/car-free --out audit"
    )
