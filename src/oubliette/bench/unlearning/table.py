"""The unlearning benchmark in Markdown: what is gone, what stays, what comes back, and the findings."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence

from oubliette.bench.unlearning.figures import Found, half_way, measures
from oubliette.bench.unlearning.plan import MEASURES
from oubliette.bench.unlearning.run import Outcome
from oubliette.bench.words import NOTHING, markdown, mean_of, percent, plain
from oubliette.core.numbers import number

__all__ = ["finding_table", "outcome_table"]


def outcome_table(outcomes: Sequence[Outcome], base: str | None) -> str:
    """A row a subject, in percent of right answers (± half the 95 % t interval over runs), and steps of
    relearning to half of what the base answers openly.
    """
    groups: dict[str, list[Outcome]] = defaultdict(list)
    for outcome in outcomes:
        groups[outcome.subject].append(outcome)
    there = {name for outcome in outcomes for name in measures(outcome)}
    names = [name for name in MEASURES if name in there]
    level = None
    if base in groups:
        level = sum(measures(one)["open"] for one in groups[base]) / len(groups[base])
    rows = []
    for subject, group in groups.items():
        found = [measures(outcome) for outcome in group]
        row = [subject, str(len(group)), *(percent([one.get(name) for one in found]) for name in names)]
        row.append(NOTHING if level is None else _half([half_way(one, level) for one in group]))
        row.append(mean_of([outcome.seconds for outcome in group], lambda value: f"{value:.0f}"))
        rows.append(row)
    return markdown(["eraser", "runs", *names, "steps to half", "seconds"], rows)


def finding_table(found: Sequence[Found]) -> str:
    """A row a finding: its claim, the difference in points or the rank correlation, and whether it holds."""
    rows = []
    for one in found:
        ranks = "/" in one.measure
        show = (lambda value: plain(f"{value:.2f}")) if ranks else (lambda value: number(value, "+.0f"))
        value = NOTHING if one.value is None else show(one.value)
        if one.value is not None and one.low is not None and one.high is not None:
            value += f" [{show(one.low)}, {show(one.high)}]"
        rows.append([one.says, one.measure, value, str(one.n), one.word])
    return markdown(["claim", "measure", "difference, or rank correlation", "n", "holds"], rows)


def _half(steps: Sequence[float | None]) -> str:
    there = [step for step in steps if step is not None]
    if not there:
        return NOTHING
    reached = [step for step in there if math.isfinite(step)]
    if not reached:
        return "not reached"
    mean = math.expm1(sum(math.log1p(step) for step in reached) / len(reached))
    missed = f" ({len(there) - len(reached)} of {len(there)} not)" if len(reached) < len(there) else ""
    return f"{mean:.0f}{missed}" if mean >= 10 else f"{mean:.1f}{missed}"
