"""How many more pictures would decide."""

from __future__ import annotations

import numpy as np
import pytest

from oubliette.eval.enough import more_of_kept, more_of_leakage
from oubliette.eval.leakage import Leakage, leakage
from oubliette.eval.statistics import Rate, ratio_above_floor
from oubliette.eval.utility import Kept


def of(hits: int, base: int, floor: int, n: int) -> Leakage:
    low = np.arange(n)
    return leakage(low < hits, low < base, low < floor, judge="j", split="s")


@pytest.mark.parametrize(("hits", "base", "floor", "n"), [(0, 16, 0, 16), (4, 98, 2, 100), (20, 95, 0, 100)])
def test_so_many_more_are_enough_and_one_less_is_not(hits: int, base: int, floor: int, n: int) -> None:
    """Held against rates that are whole at the larger n, or nearly."""
    figure = of(hits, base, floor, n)
    more = more_of_leakage(figure, 0.1)
    assert more is not None

    def clear(count: int) -> bool:
        scaled = [round(rate.value * count * 1000) for rate in (figure.rate, figure.base, figure.floor)]
        rates = [Rate(0, count, one / count / 1000, *_wilson(one / 1000, count)) for one in scaled]
        found = ratio_above_floor(*rates)
        assert found is not None
        assert found.low is not None
        assert found.high is not None
        return found.high <= 0.1 or found.low > 0.1

    assert clear(n + more)
    assert more == 0 or not clear(n + more - 1)


def _wilson(hits: float, n: int) -> tuple[float, float]:
    from oubliette.eval.statistics import wilson

    return wilson(hits, n)


def test_nothing_more_where_it_is_clear_already() -> None:
    assert more_of_leakage(of(0, 100, 0, 100), 0.1) == 0
    assert more_of_leakage(of(90, 100, 0, 100), 0.1) == 0


@pytest.mark.parametrize("hits", [8, 10, 12])
def test_at_the_bound_no_number_is_named(hits: int) -> None:
    assert more_of_leakage(of(hits, 100, 0, 100), 0.1) is None


def test_a_base_that_shows_nothing_has_none() -> None:
    assert more_of_leakage(of(0, 2, 2, 40), 0.1) is None


def test_the_same_of_what_is_kept() -> None:
    rate, base = Rate.of(22, 40), Rate.of(40, 40)
    kept = Kept(rate, base, ratio_above_floor(rate, base), 4)
    more = more_of_kept(kept, 0.5)
    assert more is not None
    assert 300 < more < 500
    assert more_of_kept(kept, 0.54) is None
