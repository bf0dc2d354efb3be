"""Differences between subjects, seed by seed: what each claim of the plan comes to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from oubliette.bench.refresh.plan import MEASURES, Claim
from oubliette.eval.statistics import t_interval

__all__ = ["Difference", "difference", "weigh"]

#: Figures by subject and seed.
Figures = Mapping[str, Mapping[int, Mapping[str, float]]]


@dataclass(frozen=True)
class Difference:
    """The mean of with - without over seeds, its 95 % t interval, the paired t test's p, and whether with is
    better: yes or no where the interval lies on one side of 0, else undecided.
    """

    says: str
    measure: str
    value: float | None
    low: float | None
    high: float | None
    p: float | None
    n: int
    word: str


def weigh(claim: Claim, figures: Figures) -> list[Difference]:
    """The claim over all its pairs, each seed's mean counting once, and then of each pair."""
    names = [f"{one} – {other}" for one, other in claim.pairs]
    each = [_by_seed(pair, claim.measure, figures) for pair in claim.pairs]
    found = [
        difference(name, claim.measure, list(seeds.values())) for name, seeds in zip(names, each, strict=True)
    ]
    if len(each) == 1:
        return [difference(claim.says, claim.measure, list(each[0].values()))]
    shared = set.intersection(*(set(seeds) for seeds in each))
    means = [float(np.mean([seeds[seed] for seeds in each])) for seed in sorted(shared)]
    return [difference(claim.says, claim.measure, means), *found]


def difference(says: str, measure: str, values: Sequence[float]) -> Difference:
    """What paired differences come to; no interval, and no word, from a single one."""
    if not values:
        return Difference(says, measure, None, None, None, None, 0, "not run")
    made = t_interval(values)
    if made.low is None or made.high is None:
        return Difference(says, measure, made.value, None, None, None, 1, "undecided")
    same = float(np.ptp(values)) == 0
    p = float(made.value == 0) if same else float(stats.ttest_1samp(values, 0.0).pvalue)
    up, down = made.low > 0, made.high < 0
    better, worse = (up, down) if MEASURES[measure][1] else (down, up)
    word = "yes" if better else "no" if worse else "undecided"
    return Difference(says, measure, made.value, made.low, made.high, p, made.n, word)


def _by_seed(pair: tuple[str, str], measure: str, figures: Figures) -> dict[int, float]:
    one, other = (figures.get(name, {}) for name in pair)
    return {seed: one[seed][measure] - other[seed][measure] for seed in sorted(set(one) & set(other))}
