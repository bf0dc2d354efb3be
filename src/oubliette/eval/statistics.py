"""Intervals and tests: Wilson, McNemar, t, cluster bootstrap, and the interval of a ratio of rates."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

CONFIDENCE = 0.95
#: A ratio's bound is looked for up to here; beyond it the bound is reported as none (unbounded).
_FARTHEST = 1e4
#: Into how many parts a squared move is split among figures.
_SPLITS = 60


@dataclass(frozen=True)
class Rate:
    """A share of pictures, `hits` out of `n`, with its Wilson interval."""

    hits: int
    n: int
    value: float
    low: float
    high: float

    @classmethod
    def of(cls, hits: int, n: int, confidence: float = CONFIDENCE) -> Rate:
        """A rate from counts; n must be positive."""
        low, high = wilson(hits, n, confidence)
        return cls(int(hits), int(n), hits / n, low, high)

    @classmethod
    def mean(cls, mask: np.ndarray, confidence: float = CONFIDENCE) -> Rate:
        """The rate of a boolean array."""
        return cls.of(int(np.count_nonzero(mask)), int(np.size(mask)), confidence)


@dataclass(frozen=True)
class Estimate:
    """A number with an interval; None for a bound means that the data do not bound it on that side."""

    value: float
    low: float | None
    high: float | None
    n: int


@dataclass(frozen=True)
class McNemar:
    """A paired comparison: pictures hit before only, after only, and the exact two-sided p-value."""

    before_only: int
    after_only: int
    p: float


def wilson(hits: float, n: float, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Wilson score interval of a binomial rate (Wilson 1927).

    Raises ValueError unless 0 <= hits <= n and n > 0.
    """
    if n <= 0 or not 0 <= hits <= n:
        raise ValueError(f"a rate needs 0 <= hits <= n and n > 0; found hits {hits}, n {n}")
    from scipy import stats  # half a second, which a list of names does not need

    z = float(stats.norm.ppf(0.5 + confidence / 2))
    share = hits / n
    scale = 1 + z * z / n
    centre = (share + z * z / (2 * n)) / scale
    half = z * float(np.sqrt(share * (1 - share) / n + z * z / (4 * n * n))) / scale
    # At the ends the bound is 0 or 1 by algebra; rounding must not move it.
    return (0.0 if hits == 0 else max(0.0, centre - half), 1.0 if hits == n else min(1.0, centre + half))


def mcnemar(before: np.ndarray, after: np.ndarray) -> McNemar:
    """Exact McNemar test on paired booleans (same prompt, same seed), two-sided (McNemar 1947).

    Both arrays have shape (n,). The p-value is the two-sided binomial tail of the discordant pairs.
    """
    from scipy import stats

    before, after = np.asarray(before, dtype=bool), np.asarray(after, dtype=bool)
    if before.shape != after.shape:
        raise ValueError(f"paired arrays must have one shape; found {before.shape} and {after.shape}")
    lost, gained = int(np.sum(before & ~after)), int(np.sum(~before & after))
    discordant = lost + gained
    p = 1.0 if discordant == 0 else min(1.0, 2 * float(stats.binom.cdf(min(lost, gained), discordant, 0.5)))
    return McNemar(lost, gained, p)


def t_interval(values: Sequence[float] | np.ndarray, confidence: float = CONFIDENCE) -> Estimate:
    """Student's t interval of a mean over runs; unbounded for a single value."""
    from scipy import stats

    data = np.asarray(values, dtype=np.float64)
    if data.size == 0:
        raise ValueError("a mean needs at least one value")
    mean = float(data.mean())
    if data.size == 1:
        return Estimate(mean, None, None, 1)
    half = float(stats.t.ppf(0.5 + confidence / 2, data.size - 1) * data.std(ddof=1) / np.sqrt(data.size))
    return Estimate(mean, mean - half, mean + half, int(data.size))


def mean_of_means(clusters: Sequence[np.ndarray]) -> float:
    """The mean over clusters of each cluster's mean: every run counts once, however many samples it has."""
    return float(np.mean([np.mean(cluster) for cluster in clusters]))


def cluster_bootstrap(
    clusters: Sequence[np.ndarray],
    statistic: Callable[[Sequence[np.ndarray]], float] = mean_of_means,
    *,
    draws: int = 2000,
    confidence: float = CONFIDENCE,
    seed: int = 0,
) -> Estimate:
    """Percentile bootstrap that resamples whole runs (Efron 1979; clusters as in Davison and Hinkley 1997,
    3.8).

    `clusters` holds one array of samples a run (a concept, a seed). Unbounded for a single cluster: samples
    within one run say nothing of how runs differ.
    """
    if not clusters:
        raise ValueError("a bootstrap needs at least one cluster")
    value = statistic(clusters)
    if len(clusters) == 1:
        return Estimate(value, None, None, 1)
    rng = np.random.default_rng(seed)
    picks = rng.integers(len(clusters), size=(draws, len(clusters)))
    values = [statistic([clusters[i] for i in pick]) for pick in picks]
    tail = (1 - confidence) / 2
    low, high = np.quantile(values, [tail, 1 - tail])
    return Estimate(value, float(low), float(high), len(clusters))


def combination(weights: Sequence[float], rates: Sequence[Rate]) -> tuple[float, float, float]:
    """Value and interval of a weighted sum of independent rates from their Wilson intervals.

    Method of variance estimates recovery (MOVER; Zou and Donner 2008). Rates that share seeds are in truth
    positively correlated, which makes the interval of their difference too wide rather than too narrow.
    """
    value = below = above = 0.0
    for weight, rate in zip(weights, rates, strict=True):
        ends = sorted((weight * rate.low, weight * rate.high))
        point = weight * rate.value
        value, below, above = value + point, below + (point - ends[0]) ** 2, above + (ends[1] - point) ** 2
    return value, value - float(np.sqrt(below)), value + float(np.sqrt(above))


def propagate(function: Callable[..., float], parts: Sequence[Rate | Estimate]) -> Estimate:
    """Value and interval of a function of independent figures that does not fall in any of them.

    The ends are the least and the greatest value where the figures move towards their own ends by shares
    whose squares sum to one (Newcombe 2013, propagating imprecision): for a sum that is squaring and adding,
    and the interval never leaves the function's range. `n` is that of all parts together. Unbounded where a
    part is.
    """
    values = np.array([part.value for part in parts])
    n, value = sum(part.n for part in parts), float(function(*values))
    lows, highs = [part.low for part in parts], [part.high for part in parts]
    if None in lows or None in highs:
        return Estimate(value, None, None, n)
    down, up = np.array(lows, float) - values, np.array(highs, float) - values
    shares = [np.sqrt(np.array(split) / _SPLITS) for split in _compositions(_SPLITS, len(parts))]
    low = min(float(function(*(values + share * down))) for share in shares)
    high = max(float(function(*(values + share * up))) for share in shares)
    return Estimate(value, min(low, value), max(high, value), n)


def _compositions(total: int, parts: int) -> Iterator[tuple[int, ...]]:
    """Every way to split a total into so many whole numbers."""
    if parts == 1:
        yield (total,)
        return
    for first in range(total + 1):
        for rest in _compositions(total - first, parts - 1):
            yield (first, *rest)


def ratio_above_floor(rate: Rate, base: Rate, floor: Rate | None = None) -> Estimate | None:
    """(rate - floor) / (base - floor) with an interval; a missing floor is an exact zero.

    The interval holds every x for which rate - x base - (1 - x) floor, a weighted sum of rates, may be zero
    (Fieller's argument with MOVER intervals; Donner and Zou 2012). Returns None where base <= floor: the
    ratio then has no meaning.
    """
    zero = Rate(0, 1, 0.0, 0.0, 0.0)
    ground = zero if floor is None else floor
    if base.value <= ground.value:
        return None
    value = (rate.value - ground.value) / (base.value - ground.value)

    def low(x: float) -> float:
        return combination((1.0, -x, x - 1.0), (rate, base, ground))[1]

    def high(x: float) -> float:
        return combination((1.0, -x, x - 1.0), (rate, base, ground))[2]

    # The sum falls as x grows: x is too small where its lower end is above zero, too large where its
    # upper end is below.
    return Estimate(value, _edge(lambda x: -low(x), value, -1), _edge(high, value, +1), rate.n)


def _edge(slack: Callable[[float], float], start: float, direction: int) -> float | None:
    """Where `slack`, not negative at `start`, first turns negative walking in `direction`; None if it never
    does.
    """
    step, inside = 0.05, start
    while step < _FARTHEST:
        outside = start + direction * step
        if slack(outside) < 0:
            from scipy import optimize

            return float(optimize.brentq(slack, inside, outside, xtol=1e-10))
        inside, step = outside, step * 1.5
    return None
