"""CMMD: how far two sets of pictures are apart on a CLIP's embeddings, with an interval over pictures."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import stats

from oubliette.eval.statistics import CONFIDENCE

#: The published bandwidth and the factor that makes the figure readable (Jayasumana et al. 2024, section 5).
SIGMA = 10.0
SCALE = 1000.0
#: Fewest pictures a side: below, a delete-one interval means nothing.
FEWEST = 16
_BLOCK = 2048


@dataclass(frozen=True)
class Cmmd:
    """A CMMD with its interval and all that it depends on; CMMDs of different extractors cannot be compared.

    `value` is the estimator of the released code, which is biased upwards by about
    1000 (1 - E k)(1/n + 1/m); `unbiased` leaves the pairs of a picture with itself out and may be below zero.
    `low` and `high` are the delete-one jackknife's 95 % interval of `value`, not below zero.
    """

    value: float
    low: float
    high: float
    unbiased: float
    extractor: str
    n: int
    n_reference: int


def cmmd(features: np.ndarray, reference: np.ndarray, *, extractor: str) -> Cmmd | None:
    """1000 times the squared MMD with the kernel exp(-|x - y|^2 / (2 10^2)) on features of length one.

    Jayasumana et al. (CVPR 2024, arXiv:2401.09603); the estimator is the one of their released code, means
    over all pairs, a picture's with itself among them (Gretton et al. 2012, equation 5). Takes features (n,
    d) and (m, d) of any length, which are scaled to one; they should be a CLIP's. The interval is normal with
    the variance of a jackknife that leaves out one picture of either side; where both sets are alike it is
    wider than it need be. Returns None below 16 pictures a side. Computed in float64.
    """
    n, m = len(features), len(reference)
    if min(n, m) < FEWEST:
        return None
    x, y = _unit(features), _unit(reference)
    own, other = _row_sums(x, x), _row_sums(y, y)
    across, back = _row_sums(x, y), _row_sums(y, x)
    within, among, between = own.sum(), other.sum(), across.sum()
    value = within / n**2 + among / m**2 - 2 * between / (n * m)
    # A picture's kernel with itself is one, so that what is left without it follows from the row sums.
    left_x = (within - 2 * own + 1) / (n - 1) ** 2 + among / m**2 - 2 * (between - across) / ((n - 1) * m)
    left_y = within / n**2 + (among - 2 * other + 1) / (m - 1) ** 2 - 2 * (between - back) / (n * (m - 1))
    half = float(stats.norm.ppf(0.5 + CONFIDENCE / 2)) * float(np.sqrt(_spread(left_x) + _spread(left_y)))
    fair = (within - n) / (n * (n - 1)) + (among - m) / (m * (m - 1)) - 2 * between / (n * m)
    value = max(0.0, float(value))
    return Cmmd(
        SCALE * value,
        SCALE * max(0.0, value - half),
        SCALE * (value + half),
        SCALE * float(fair),
        extractor,
        n,
        m,
    )


def _unit(rows: np.ndarray) -> np.ndarray:
    rows = np.asarray(rows, dtype=np.float64)
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)


def _row_sums(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Sums (n,) of the kernel of each row of x with all of y, some rows at a time."""
    parts = []
    for start in range(0, len(x), _BLOCK):
        apart = 2.0 - 2.0 * (x[start : start + _BLOCK] @ y.T)
        parts.append(np.exp(-np.maximum(apart, 0.0) / (2 * SIGMA**2)).sum(1))
    return np.concatenate(parts)


def _spread(left: np.ndarray) -> float:
    """The jackknife's variance from what is found without each picture in turn."""
    return float((len(left) - 1) / len(left) * ((left - left.mean()) ** 2).sum())
