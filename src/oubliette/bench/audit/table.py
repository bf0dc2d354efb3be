"""A benchmark's cells as Markdown: what prompts show, what fine-tuning brings back, what a change does."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Sequence

from oubliette.bench.audit.contrasts import Correlation, Difference
from oubliette.bench.audit.figures import CellFigures, Relearned, names_in
from oubliette.bench.words import NOTHING, counted, leaked, markdown, mean_of, percent, plain
from oubliette.core.numbers import ends, number
from oubliette.eval.statistics import Estimate

__all__ = [
    "against",
    "area",
    "contrast_table",
    "correlation_table",
    "ended",
    "prompt_table",
    "relearning_table",
    "searched",
]

Group = list[CellFigures]


def prompt_table(cells: Sequence[CellFigures]) -> str:
    """What prompts alone show, what searches for prompts find (gold's share beside it) and what is kept, in
    percent.
    """
    splits = names_in(cells, "leakage")
    searches = names_in(cells, "searched")
    kept = names_in(cells, "kept")
    head = ["eraser", "kind", "runs", "verdict"]
    head += [f"leakage {name}" for name in splits] + [f"{name} (gold)" for name in searches]
    rows = []
    for (subject, kind), group in _groups(cells).items():
        row = [subject, kind, str(len(group)), counted([cell.verdict for cell in group])]
        row += [leaked([c.leakage.get(name) for c in group]) for name in splits]
        row += [searched(group, name) for name in searches]
        rows.append(row + [percent([c.kept.get(name) for c in group]) for name in kept])
    return markdown([*head, *(f"kept: {name}" for name in kept)], rows)


def relearning_table(cells: Sequence[CellFigures]) -> str:
    """What fine-tuning brings back: area under the resistance curve (gold's), steps to half, and how much
    sooner than gold; of benign fine-tuning, the leakage at its end (gold's).
    """
    attacks, benign = names_in(cells, "relearned"), names_in(cells, "benign")
    head = ["eraser", "kind", "runs"]
    for name in attacks:
        head += [f"{name}: area (gold)", "half-way", "against gold"]
    rows = []
    for (subject, kind), group in _groups(cells).items():
        if not any(cell.relearned or cell.benign for cell in group):
            continue
        row = [subject, kind, str(len(group))]
        for name in attacks:
            found = [cell.relearned[name] for cell in group if name in cell.relearned]
            row += [area(found), _half(found), against(found)]
        for name in benign:
            row.append(ended([cell.benign[name] for cell in group if name in cell.benign]))
        rows.append(row)
    return markdown([*head, *(f"{name}: leakage at the end (gold)" for name in benign)], rows)


def contrast_table(found: Sequence[Difference]) -> str:
    """Differences in percentage points, with their t intervals over pairs of runs."""
    rows = [[made.contrast, made.measure, str(made.estimate.n), _points(made.estimate)] for made in found]
    return markdown(["change", "measure", "pairs", "with less without, points"], rows)


def correlation_table(found: Sequence[Correlation]) -> str:
    """Rank correlations with their intervals."""
    rows = [
        [f"{made.one} / {made.other}", str(made.cells), str(made.subjects), _interval(made)] for made in found
    ]
    return markdown(["measures", "cells", "erasers", "Spearman's rho"], rows)


def _groups(cells: Sequence[CellFigures]) -> dict[tuple[str, str], Group]:
    """Cells by kind, then by subject, each in the order in which they come."""
    kinds = list(dict.fromkeys(cell.kind for cell in cells))
    found: dict[tuple[str, str], Group] = defaultdict(list)
    for cell in sorted(cells, key=lambda cell: kinds.index(cell.kind)):
        found[cell.subject, cell.kind].append(cell)
    return found


def searched(group: Sequence[CellFigures], name: str) -> str:
    """The share of cases, in percent, in which a search found the concept, and gold's."""
    found = [cell.searched[name] for cell in group if name in cell.searched]
    return f"{percent([f.found for f in found])} ({percent([f.gold for f in found])})"


def area(found: Sequence[Relearned]) -> str:
    """The area under the resistance curve, and gold's."""
    return f"{mean_of([f.area for f in found], _number)} ({mean_of([f.gold_area for f in found], _number)})"


def ended(found: Sequence[Relearned]) -> str:
    """The leakage after the last step, in percent, and gold's."""
    return f"{leaked([f.end for f in found])} ({leaked([f.gold_end for f in found])})"


def _half(found: Sequence[Relearned]) -> str:
    """Steps to half strength: the geometric mean in 1 + steps, or that it was not reached."""
    if not found:
        return NOTHING
    there = [f.half for f in found if f.half is not None]
    last = max(f.last for f in found)
    if not there:
        return f"> {last}"
    mean = math.expm1(sum(math.log1p(half) for half in there) / len(there))
    missed = f" ({len(found) - len(there)} of {len(found)} not in {last})" if len(there) < len(found) else ""
    return f"{mean:.0f}{missed}" if mean >= 10 else f"{mean:.1f}{missed}"


def against(found: Sequence[Relearned]) -> str:
    """How many times sooner or later than gold: the geometric mean, a bound where one never got there."""
    told = [f for f in found if f.advantage is not None]
    if not told:
        words = Counter(f.state for f in found if f.state)
        return ", ".join(words) or NOTHING
    mean = sum(f.advantage for f in told if f.advantage is not None) / len(told)
    signs = {f.sign for f in told}
    times = math.exp(abs(mean))
    if round(times, 1) == 1.0 and {f.sign for f in told} == {"="}:
        return "as soon"
    word = "sooner" if mean >= 0 else "later"
    bound = ""
    if signs - {"="}:
        # "more than" bounds the logarithm from below: of something later that is "at most".
        lower = signs <= {">", "="}
        upper = signs <= {"<", "="}
        bound = "~" if not (lower or upper) else "≥ " if lower == (mean >= 0) else "≤ "
    untold = f" ({len(found) - len(told)} of {len(found)} untold)" if len(told) < len(found) else ""
    return f"{bound}{times:.1f}× {word}{untold}"


def _number(value: float) -> str:
    return f"{value:.2f}"


def _points(made: Estimate) -> str:
    value = number(made.value, "+.0f")
    if made.low is None or made.high is None:
        return value
    return f"{value} {ends(made.low, made.high, '+.0f')}"


def _interval(made: Correlation) -> str:
    low, high = plain(f"{made.low:.2f}"), plain(f"{made.high:.2f}")
    return f"{plain(f'{made.value:.2f}')} [{low}, {high}]"
