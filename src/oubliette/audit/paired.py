"""The interval of a difference of two rates taken on the same prompts and seeds."""

from __future__ import annotations

import numpy as np
from scipy import optimize, stats

from oubliette.eval.statistics import CONFIDENCE, Estimate

__all__ = ["paired_difference"]


def paired_difference(first: np.ndarray, second: np.ndarray, confidence: float = CONFIDENCE) -> Estimate:
    """Rate of `first` minus rate of `second`, boolean arrays (n,) of the same pictures, with Tango's
    interval.

    The interval holds every difference that the score test does not reject (Tango 1998, Statistics in
    Medicine 17:891, eq. 7 and 8); with no discordant pair it is z^2 / (n + z^2) to either side. Raises
    ValueError for arrays of different lengths, or empty ones.
    """
    first, second = np.asarray(first, dtype=bool), np.asarray(second, dtype=bool)
    if first.shape != second.shape or first.size == 0:
        raise ValueError(
            f"paired arrays must have one length, not zero; found {first.shape} and {second.shape}"
        )
    n = int(first.size)
    gained, lost = int(np.sum(first & ~second)), int(np.sum(~first & second))
    z = float(stats.norm.ppf(0.5 + confidence / 2))
    value = (gained - lost) / n

    def score(delta: float) -> float:
        linear = (2 * n - gained + lost) * delta - gained - lost
        constant = -lost * delta * (1 - delta)
        share = (np.sqrt(max(0.0, linear**2 - 8 * n * constant)) - linear) / (4 * n)
        variance = n * (2 * share + delta * (1 - delta))
        distance = gained - lost - n * delta
        if variance <= 0:
            return 0.0 if distance == 0 else float(np.sign(distance)) * float("inf")
        return float(distance / np.sqrt(variance))

    return Estimate(value, _root(score, value, -1.0, z), _root(score, value, 1.0, z), n)


def _root(score: object, value: float, end: float, z: float) -> float:
    """Where |score| reaches z between the estimate, where it is zero, and the end, where it is largest."""
    assert callable(score)
    edge = end * (1 - 1e-12)

    def slack(delta: float) -> float:
        return min(abs(score(delta)), 1e9) - z

    if (abs(value) >= 1 and np.sign(value) == end) or slack(edge) <= 0:
        return end
    return float(optimize.brentq(slack, value, edge, xtol=1e-12))
