"""The numbers of one cell by name, and what the plan's findings come to."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from oubliette.bench.unlearning.plan import MEASURES, Finding, Plan
from oubliette.bench.unlearning.run import Outcome
from oubliette.eval.resistance import crossing
from oubliette.eval.statistics import t_interval

__all__ = ["Found", "found", "half_way", "measures", "word_of"]

_DRAWS = 2000
_FEWEST = 4


@dataclass(frozen=True)
class Found:
    """What a finding came to: the difference or rank correlation, its 95 % interval, and a word."""

    says: str
    measure: str
    value: float | None
    low: float | None
    high: float | None
    n: int
    word: str


def measures(outcome: Outcome) -> dict[str, float]:
    """The measures of `oubliette.bench.unlearning.plan.MEASURES` that a cell has.

    "At worst" is the highest share over steps, skills, bits or prefixes, and of what must stay the lowest.
    """
    states, own = outcome.states, outcome.states["erased"]
    made: dict[str, float | None] = {
        "mcq": own["forget"].get("mcq"),
        "open": own["forget"].get("open_qa"),
        "open, other words": own["withheld"].get("open_qa"),
        "kept mcq": own["retain"].get("mcq"),
        "kept open": own["retain"].get("open_qa"),
        "skills": own["skills"].get("open_qa"),
    }
    groups: dict[str, list[str]] = defaultdict(list)
    for state in states:
        if state.startswith("relearned at "):
            groups["relearned"].append(state)
        elif " at " in state:
            groups["unrelated"].append(state)
        elif state.endswith(" bits"):
            groups["quantized"].append(state)
        elif state.startswith("pressed: "):
            groups["jailbroken"].append(state)
    for group, names in groups.items():
        for short, metric in (("mcq", "mcq"), ("open", "open_qa")):
            seen = [states[name]["forget"][metric] for name in names if metric in states[name]["forget"]]
            made[f"{group} {short}"] = max(seen, default=None)
    if groups["quantized"]:
        made["quantized kept"] = min(states[name]["retain"]["open_qa"] for name in groups["quantized"])
    return {name: value for name in MEASURES if (value := made.get(name)) is not None}


def half_way(outcome: Outcome, level: float) -> float | None:
    """Steps of relearning after which the open answers first reach half of `level`.

    Linear in log(1 + step) between looks; 0 where they are there from the start, infinite where they never
    are, None where there was no relearning.
    """
    curve = [(0, outcome.states["erased"]["forget"]["open_qa"])]
    for name, sets in outcome.states.items():
        if name.startswith("relearned at "):
            curve.append((int(name.removeprefix("relearned at ")), sets["forget"]["open_qa"]))
    if len(curve) == 1:
        return None
    steps = crossing(curve, level / 2)
    return math.inf if steps is None else steps


def found(plan: Plan, outcomes: Sequence[Outcome]) -> list[Found]:
    """Each finding of the plan held against the cells."""
    by_subject: dict[str, dict[int, dict[str, float]]] = defaultdict(dict)
    for outcome in outcomes:
        by_subject[outcome.subject][outcome.seed] = measures(outcome)
    return [_of(finding, by_subject) for finding in plan.findings]


def _of(finding: Finding, cells: dict[str, dict[int, dict[str, float]]]) -> Found:
    if finding.measures is not None:
        return _ranked(finding, cells)
    name = finding.measure or ""
    if finding.pairs:
        values = [
            cells[one][seed][name] - cells[other][seed][name]
            for one, other in finding.pairs
            for seed in cells[one]
            if name in cells[one][seed] and name in cells[other].get(seed, {})
        ]
        if not values:
            return Found(finding.says, name, None, None, None, 0, "not run")
        made = t_interval(values)
        word = word_of(
            -1 if made.high is None else made.high, -1 if made.low is None else made.low, down=True
        )
        word = "undecided" if made.low is None else word
        return Found(finding.says, name, made.value, made.low, made.high, len(values), word)
    groups = [
        [[cell[name] for cell in cells[subject].values() if name in cell] for subject in subjects]
        for subjects in (finding.more, finding.less)
    ]
    groups = [[values for values in group if values] for group in groups]
    if not all(groups):
        return Found(finding.says, name, None, None, None, 0, "not run")
    more, less = (np.array([np.mean(values) for values in group]) for group in groups)
    rng = np.random.default_rng(31)
    drawn = [
        more[rng.integers(len(more), size=len(more))].mean()
        - less[rng.integers(len(less), size=len(less))].mean()
        for _ in range(_DRAWS)
    ]
    low, high = (float(end) for end in np.quantile(drawn, [0.025, 0.975]))
    count = sum(len(values) for group in groups for values in group)
    few = min(len(more), len(less)) < 2
    word = "undecided" if few else word_of(high, low, down=False)
    return Found(finding.says, name, float(more.mean() - less.mean()), low, high, count, word)


def _ranked(finding: Finding, cells: dict[str, dict[int, dict[str, float]]]) -> Found:
    """Spearman's rank correlation of two measures over subjects, each the mean over its seeds."""
    from scipy.stats import spearmanr

    assert finding.measures is not None
    one, other = finding.measures
    rows = [
        [float(np.mean([cell[name] for cell in seeds.values()])) for name in (one, other)]
        for seeds in cells.values()
        if all(one in cell and other in cell for cell in seeds.values())
    ]
    label = f"{one} / {other}"
    table = np.array(rows)
    if len(rows) < _FEWEST or (np.ptp(table, axis=0) == 0).any():
        return Found(finding.says, label, None, None, None, len(rows), "undecided")
    rng = np.random.default_rng(31)
    drawn = []
    for _ in range(_DRAWS):
        some = table[rng.integers(len(table), size=len(table))]
        if (np.ptp(some, axis=0) > 0).all():
            drawn.append(float(spearmanr(some[:, 0], some[:, 1]).statistic))
    low, high = (float(end) for end in np.quantile(drawn, [0.025, 0.975]))
    value = float(spearmanr(table[:, 0], table[:, 1]).statistic)
    return Found(finding.says, label, value, low, high, len(rows), word_of(high, low, down=False))


def word_of(high: float, low: float, *, down: bool) -> str:
    """Whether an interval lies on the claim's side of 0 ("yes"), on the other ("no"), or on both."""
    yes, no = (high < 0, low > 0) if down else (low > 0, high < 0)
    return "yes" if yes else "no" if no else "undecided"
