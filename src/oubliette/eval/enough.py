"""How many pictures would decide what an interval leaves open."""

from __future__ import annotations

from collections.abc import Callable

from oubliette.eval.leakage import Leakage
from oubliette.eval.statistics import Estimate, Rate, ratio_above_floor, wilson
from oubliette.eval.utility import Kept

__all__ = ["more_of_kept", "more_of_leakage"]

#: An estimate this near to a bound is not told from it by any number of pictures one would draw.
AT_THE_BOUND = 0.02
#: Nor by more pictures than these.
_MOST = 100_000


def more_of_leakage(figure: Leakage, bound: float) -> int | None:
    """How many more pictures a set of prompts (and of the floor, in proportion) would put the interval of the
    same rates clear of the bound.

    0 where it is clear already; None where the estimate lies at the bound, or nothing bounds it.
    """

    def at(scale: float) -> Estimate | None:
        return ratio_above_floor(*(_grown(rate, scale) for rate in (figure.rate, figure.base, figure.floor)))

    return _more(at, figure.rate.n, bound)


def more_of_kept(figure: Kept, bound: float) -> int | None:
    """The same for pictures of what must be kept."""
    return _more(
        lambda scale: ratio_above_floor(_grown(figure.rate, scale), _grown(figure.base, scale)),
        figure.rate.n,
        bound,
    )


def _more(at: Callable[[float], Estimate | None], n: int, bound: float) -> int | None:
    now = at(1.0)
    if now is None or abs(now.value - bound) <= AT_THE_BOUND + 1e-9:
        return None

    def clear(count: int) -> bool:
        found = at(count / n)
        if found is None or found.low is None or found.high is None:
            return False
        return found.high <= bound or found.low > bound

    low, high = n - 1, n
    while not clear(high):
        if high >= _MOST:
            return None
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if clear(middle) else (middle, high)
    return high - n


def _grown(rate: Rate, scale: float) -> Rate:
    """The same share of so many times the pictures; hits need not be whole here."""
    n = rate.n * scale
    low, high = wilson(min(rate.value * n, n), n)
    return Rate(round(rate.hits * scale), round(n), rate.value, low, high)
