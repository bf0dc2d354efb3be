"""AUROC of a score against labels, as a rank statistic, with an interval that holds at its ends too."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import optimize, stats

from oubliette.eval.statistics import CONFIDENCE


@dataclass(frozen=True)
class Auroc:
    """How often a positive scores above a negative (a tie counts half), out of `positives` times `negatives`.

    `interval` says how `low` and `high` were found: "DeLong", or "Newcombe" where the two are fully apart and
    DeLong's variance is zero.
    """

    value: float
    low: float
    high: float
    positives: int
    negatives: int
    interval: str


def auroc(scores: np.ndarray, labels: np.ndarray, confidence: float = CONFIDENCE) -> Auroc | None:
    """Area under the ROC curve of scores (n,) for boolean labels (n,); None where one of the two is missing.

    The Mann-Whitney statistic from midranks. The interval is DeLong's (1988) on the logit's scale, so that it
    stays in 0..1; where the variance is zero, method 5 of Newcombe (2006), which needs none. Raises
    ValueError for a score that is no number.
    """
    scores, labels = np.asarray(scores, dtype=np.float64), np.asarray(labels, dtype=bool)
    if scores.shape != labels.shape or scores.ndim != 1:
        raise ValueError(f"scores and labels must be (n,); found {scores.shape} and {labels.shape}")
    if np.isnan(scores).any():
        raise ValueError(f"scores must be numbers; found {int(np.isnan(scores).sum())} that are none")
    above, below = scores[labels], scores[~labels]
    m, n = len(above), len(below)
    if not m or not n:
        return None
    ranks = stats.rankdata(np.concatenate([above, below]))
    # The share of negatives below each positive, and of positives above each negative, ties half.
    wins = (ranks[:m] - stats.rankdata(above)) / n
    losses = 1.0 - (ranks[m:] - stats.rankdata(below)) / m
    value = float(wins.mean())
    variance = _mean_variance(wins) + _mean_variance(losses)
    z = float(stats.norm.ppf(0.5 + confidence / 2))
    if variance > 0 and 0 < value < 1:
        logit, half = np.log(value / (1 - value)), z * np.sqrt(variance) / (value * (1 - value))
        low, high = (float(1 / (1 + np.exp(-end))) for end in (logit - half, logit + half))
        return Auroc(value, low, high, m, n, "DeLong")
    return Auroc(value, *_newcombe(value, m, n, z), m, n, "Newcombe")


def _mean_variance(shares: np.ndarray) -> float:
    return float(shares.var(ddof=1) / len(shares)) if len(shares) > 1 else 0.0


def _newcombe(value: float, m: int, n: int, z: float) -> tuple[float, float]:
    """Every area whose own standard error, by an exponential model, would allow the one that was found."""
    spare = (m + n) / 2 - 1

    def error(area: float) -> float:
        spread = 1 + spare * (1 - area) / (2 - area) + spare * area / (1 + area)
        return float(np.sqrt(max(0.0, area * (1 - area) * spread / (m * n))))

    def end(far: float) -> float:
        slack = [abs(at - value) - z * error(at) for at in (value + 1e-9 * (far - value), far)]
        if slack[0] >= 0 or slack[1] <= 0:
            return far
        inside, outside = sorted((value + 1e-9 * (far - value), far))
        return float(optimize.brentq(lambda at: abs(at - value) - z * error(at), inside, outside))

    return (0.0 if value == 0 else end(0.0), 1.0 if value == 1 else end(1.0))
