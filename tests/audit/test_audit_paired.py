"""The paired interval against its definition: the differences that the score test does not reject."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import optimize

from oubliette.audit.paired import paired_difference

Z = 1.959963984540054


def pairs(both: int, first: int, second: int, neither: int) -> tuple[np.ndarray, np.ndarray]:
    one = [True] * (both + first) + [False] * (second + neither)
    other = [True] * both + [False] * first + [True] * second + [False] * neither
    return np.array(one), np.array(other)


def statistic(first: int, second: int, n: int, delta: float) -> float:
    """The score statistic at a difference, its nuisance parameter found by maximising the likelihood."""

    def against(q: float) -> float:  # q: P(second only); then P(first only) = q + delta
        cells = ((first, q + delta), (second, q), (n - first - second, 1 - 2 * q - delta))
        if any(count and share <= 0 for count, share in cells):
            return 1e9
        return -sum(count * np.log(share) for count, share in cells if count)

    low, high = max(0.0, -delta), (1 - delta) / 2
    q = optimize.minimize_scalar(against, bounds=(low, high), method="bounded", options={"xatol": 1e-12}).x
    return float((first - second - n * delta) / np.sqrt(n * (2 * q + delta * (1 - delta))))


@pytest.mark.parametrize(("first", "second", "n"), [(9, 2, 40), (1, 7, 30), (4, 4, 25), (12, 1, 16)])
def test_at_the_ends_the_score_is_z(first: int, second: int, n: int) -> None:
    found = paired_difference(*pairs(3, first, second, n - first - second - 3))
    assert found.value == pytest.approx((first - second) / n)
    assert found.low is not None
    assert found.high is not None
    assert statistic(first, second, n, found.low) == pytest.approx(Z, abs=1e-3)
    assert statistic(first, second, n, found.high) == pytest.approx(-Z, abs=1e-3)


def test_no_discordant_pair() -> None:
    n = 48
    found = paired_difference(*pairs(20, 0, 0, 28))
    assert found.value == 0
    assert found.high == pytest.approx(Z**2 / (n + Z**2))
    assert found.low == pytest.approx(-(Z**2) / (n + Z**2))


def test_only_one_way_and_all_of_them() -> None:
    found = paired_difference(*pairs(0, 20, 0, 0))
    assert (found.value, found.high) == (1, 1)
    # With first-only pairs alone the nuisance parameter is (1 - d) / 2, and n (1 - d) / (1 + d) = z^2.
    assert found.low == pytest.approx((1 - Z**2 / 20) / (1 + Z**2 / 20))
    other = paired_difference(*pairs(0, 0, 20, 0))
    assert other.low == -1
    assert other.high == pytest.approx(-(found.low or 0))


def test_swapping_turns_it_round() -> None:
    one, other = pairs(5, 7, 2, 11)
    there, back = paired_difference(one, other), paired_difference(other, one)
    assert (back.low, back.high) == (pytest.approx(-there.high), pytest.approx(-there.low))


def test_coverage() -> None:
    """Of 400 samples with a known difference, about 95 % of intervals hold it."""
    rng = np.random.default_rng(0)
    held = 0
    for _ in range(400):
        cell = rng.choice(4, size=40, p=[0.3, 0.25, 0.1, 0.35])
        found = paired_difference(cell < 2, (cell == 0) | (cell == 2))
        assert found.low is not None
        assert found.high is not None
        held += found.low <= 0.15 <= found.high
    assert 0.92 <= held / 400 <= 0.98


def test_wrong_arrays() -> None:
    for one, other in ((np.ones(3), np.ones(4)), (np.ones(0), np.ones(0))):
        with pytest.raises(ValueError, match="one length"):
            paired_difference(one.astype(bool), other.astype(bool))
