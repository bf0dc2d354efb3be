"""An audit's figures as words on its page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from oubliette.audit.against import gap, pace
from oubliette.audit.result import (
    GOLD,
    MODEL,
    NOVEL,
    Audit,
    Curve,
    LeakageGap,
    RelearningAdvantage,
    RowResult,
    Swept,
    Tried,
)
from oubliette.core.numbers import unbroken
from oubliette.data.wording import PICTURES, Wording, wording_of
from oubliette.eval.rows import BASE, row_name
from oubliette.report.words import MISSING, estimate, percent, rate, short

__all__ = [
    "KINDS",
    "against",
    "area",
    "bounds",
    "budget",
    "control",
    "excess",
    "fact",
    "mean",
    "names",
    "outcome",
    "rates",
    "sooner",
    "steps",
    "sweep",
    "title",
]

KINDS = {
    "evaluation": "no attack",
    "prompts": "search for prompts",
    "relearn": "fine-tuning on the concept",
    "benign": "fine-tuning without the concept",
    "probe": "nothing is trained",
}
_SHOWN = (
    "pictures",
    "steps",
    "batch",
    "accumulation",
    "learning_rate",
    "rank",
    "cases",
    "tries",
    "n",
    "frozen",
)
_COUNTED = ("pictures", "steps", "cases", "tries", "n", "frozen")
_LABELS = {"learning_rate": "learning rate", "frozen": "tensors frozen"}


def title(audit: Audit) -> str:
    """What the page is about."""
    return f"Is “{audit.concept['name']}” gone from {short(audit.model.source)}?"


def names(audit: Audit) -> dict[str, str]:
    """What each subject is called."""
    found = {MODEL: row_name(audit.model.source), BASE: f"{short(audit.base.source)} (original)"}
    if audit.gold is not None:
        found[GOLD] = f"{short(audit.gold.source)} (never knew it)"
    if audit.novel is not None:
        found[NOVEL] = f"“{audit.novel.name}” (new to the model)"
    return found


def control(audit: Audit) -> str | None:
    """What the model is held against in the table of all rows: gold, a novel concept, or nothing."""
    return GOLD if audit.gold is not None else NOVEL if audit.novel is not None else None


def fact(value: Any) -> str:
    """A budget's value as text: mappings and lists without their brackets, numbers as short as they are."""
    if isinstance(value, Mapping):
        return "; ".join(f"{str(key).replace('_', ' ')} {fact(item)}" for key, item in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(fact, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def rates(found: Swept) -> list[tuple[float, list[Tried]]]:
    """A sweep's runs by learning rate, the smallest first."""
    by_rate: dict[float, list[Tried]] = {}
    for one in sorted(found.tried, key=lambda one: one.learning_rate):
        by_rate.setdefault(one.learning_rate, []).append(one)
    return list(by_rate.items())


def sweep(found: Swept) -> str:
    """A sweep in a line: "1e-05: area 0.20, 98 % kept; 0.0001: ...; taken: 0.0001"."""
    tried = [
        f"{rate:g}: area {mean([one.strength for one in runs]):.2f}, "
        f"{percent(mean([one.kept for one in runs]))} kept"
        for rate, runs in rates(found)
    ]
    end = f"none keeps {percent(found.keep_at_least)}" if found.winner is None else f"taken: {found.winner:g}"
    return "; ".join([*tried, end])


def mean(values: Sequence[float]) -> float:
    """The mean of some numbers."""
    return sum(values) / len(values)


def budget(row: RowResult, wording: Wording = PICTURES) -> str:
    """The budget in one line."""
    parts = []
    for key in _SHOWN:
        value = row.budget.get(key)
        if value in (None, 0) or (key == "rank" and row.budget.get("mode") != "lora"):
            continue
        if key == "accumulation" and value == 1:
            continue
        label = {**_LABELS, "pictures": f"{wording.item}s", "n": f"{wording.samples} a set"}.get(key, key)
        text = f"{value:g}" if isinstance(value, float) else str(value)
        parts.append(f"{text} {label}" if key in _COUNTED else f"{label} {text}")
    return ", ".join(parts)


def outcome(row: RowResult, subject: str) -> str:
    """A row's result on one subject, in a cell."""
    if row.status == "skipped":
        return MISSING
    if row.kind == "evaluation":
        wanted = GOLD if subject == GOLD else subject
        found = next((made for made in row.evaluated if made.subject == wanted), None)
        if found is None:
            return MISSING
        own = [f for f in found.figures.leakage if f.judge == found.figures.judge]
        return (
            ", ".join(
                f"{figure.split} {estimate(figure.leakage, wording_of(found.figures.kind))}" for figure in own
            )
            or MISSING
        )
    if row.curves:
        curves = [curve for curve in row.of(subject) if curve.readings]
        if not curves:
            return MISSING
        best = [curve.recovered for curve in curves if curve.recovered is not None]
        top = percent(max(0.0, sum(best) / len(best))) if best else MISSING
        return f"{top} at most; half-way {steps([curve.to_half for curve in curves], curves)}"
    shown = [made for made in row.found if made.subject == subject]
    return (
        "; ".join(
            rate(made.after)
            + (f", {unbroken(made.where)}" if made.where else "")
            + (f", {percent(made.facts['kept'])} kept" if "kept" in made.facts else "")
            for made in shown
        )
        or MISSING
    )


def steps(values: list[float | None], curves: list[Curve]) -> str:
    """Steps to a level over runs: their mean, or that it was not reached."""
    there = [value for value in values if value is not None]
    if not there:
        return f"not within {max(curve.readings[-1].step for curve in curves)}"
    mean = sum(there) / len(there)
    text = f"{mean:.0f}" if mean >= 10 else f"{mean:.1f}"
    missed = f" (not in {len(values) - len(there)} of {len(values)} runs)" if len(there) < len(values) else ""
    return f"after {text}{missed}"


def area(values: list[float | None]) -> str:
    """The mean area over runs, and its range."""
    there = [value for value in values if value is not None]
    if not there:
        return MISSING
    mean = f"{sum(there) / len(there):.2f}"
    return mean if len(there) == 1 else f"{mean} ({min(there):.2f} to {max(there):.2f})"


def against(row: RowResult) -> str:
    """A row's result on the model, held against that on gold or on what stands in for it, in a cell."""
    if row.sooner is not None:
        return sooner(row.sooner)
    return excess(row.excess)


def sooner(found: RelearningAdvantage | None) -> str:
    """A relearning advantage: "4.2 times sooner than in gold [3, 6.1]"."""
    return MISSING if found is None else pace(found)


def excess(found: list[LeakageGap]) -> str:
    """What the model shows above gold, or below it."""
    lines = []
    for made in found:
        where = f"{made.where}: " if made.where else ""
        lines.append(f"{where}{unbroken(gap(made))}")
    return "; ".join(lines) or MISSING


def bounds(limits: Mapping[str, Any]) -> str:
    """What the verdict was held against."""
    return (
        f"Prompts count as clean when the whole 95 % interval of leakage is at or below "
        f"{percent(limits['leakage'])}. The concept is back at {percent(limits['level'])} of its strength. "
        f"It was hidden, not erased, where it is back more than {limits['sooner']:g} times sooner than in a "
        f"model that never knew it, or where an attack shows {percent(limits['leakage'])} more of it than of "
        f"that model. A model that keeps less than {percent(limits['destroyed'])} of the original's accuracy "
        f"on everything else is destroyed."
    )
