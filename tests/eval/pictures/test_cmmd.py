"""CMMD against a double loop over pairs, its jackknife against leaving pictures out, its interval."""

from __future__ import annotations

import math

import numpy as np
import pytest

from oubliette.eval.pictures.cmmd import cmmd


def kernel(a: np.ndarray, b: np.ndarray) -> float:
    return math.exp(-sum((p - q) ** 2 for p, q in zip(a, b, strict=True)) / (2 * 10**2))


def by_pairs(x: np.ndarray, y: np.ndarray) -> float:
    """The released estimator: means over all pairs, those of a row with itself among them."""
    x = x / np.linalg.norm(x, axis=1, keepdims=True)
    y = y / np.linalg.norm(y, axis=1, keepdims=True)
    own = sum(kernel(a, b) for a in x for b in x) / len(x) ** 2
    other = sum(kernel(a, b) for a in y for b in y) / len(y) ** 2
    across = sum(kernel(a, b) for a in x for b in y) / (len(x) * len(y))
    return 1000 * (own + other - 2 * across)


def without_self(x: np.ndarray, y: np.ndarray) -> float:
    x = x / np.linalg.norm(x, axis=1, keepdims=True)
    y = y / np.linalg.norm(y, axis=1, keepdims=True)
    n, m = len(x), len(y)
    own = sum(kernel(x[i], x[j]) for i in range(n) for j in range(n) if i != j) / (n * (n - 1))
    other = sum(kernel(y[i], y[j]) for i in range(m) for j in range(m) if i != j) / (m * (m - 1))
    return 1000 * (own + other - 2 * sum(kernel(a, b) for a in x for b in y) / (n * m))


@pytest.fixture
def pair() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.normal(size=(18, 5)), rng.normal(0.5, 1.3, size=(23, 5))


def test_both_estimators_by_a_double_loop(pair: tuple[np.ndarray, np.ndarray]) -> None:
    found = cmmd(*pair, extractor="raw")
    assert found is not None
    assert found.value == pytest.approx(by_pairs(*pair), rel=1e-9)
    assert found.unbiased == pytest.approx(without_self(*pair), rel=1e-9)
    assert (found.extractor, found.n, found.n_reference) == ("raw", 18, 23)


def test_the_interval_is_that_of_leaving_one_picture_out(pair: tuple[np.ndarray, np.ndarray]) -> None:
    x, y = pair
    found = cmmd(x, y, extractor="raw")
    left_x = np.array([by_pairs(np.delete(x, i, 0), y) for i in range(len(x))])
    left_y = np.array([by_pairs(x, np.delete(y, i, 0)) for i in range(len(y))])
    variance = sum((len(left) - 1) * left.var() for left in (left_x, left_y))
    assert found is not None
    assert found.high - found.value == pytest.approx(1.959964 * math.sqrt(variance), rel=1e-5)
    assert found.low == pytest.approx(max(0.0, 2 * found.value - found.high), abs=1e-9)


def test_a_feature_s_length_does_not_matter(pair: tuple[np.ndarray, np.ndarray]) -> None:
    x, y = pair
    one, other = cmmd(x, y, extractor="raw"), cmmd(7 * x, y / 3, extractor="raw")
    assert one is not None
    assert other is not None
    assert one.value == pytest.approx(other.value, rel=1e-9)


def test_a_set_is_no_distance_from_itself_and_a_shift_is_seen() -> None:
    rng = np.random.default_rng(1)
    x = rng.normal(size=(100, 4))
    same = cmmd(x, x, extractor="raw")
    assert same is not None
    assert same.value == pytest.approx(0.0, abs=1e-9)
    values = [cmmd(rng.normal(s, 1, (100, 4)), x, extractor="raw") for s in (0.0, 0.5, 1.5)]
    assert values[0].low == 0.0
    assert values[0].high < values[1].low < values[1].high < values[2].low


def test_the_interval_covers_what_many_pictures_show() -> None:
    """95 % intervals of n = 60 hold the expected value of the estimator in at least 88 % of 120 trials."""
    rng = np.random.default_rng(2)

    def draw(n: int) -> tuple[np.ndarray, np.ndarray]:
        return rng.normal(size=(n, 3)), rng.normal(0.4, 1, size=(n, 3))

    found = [cmmd(*draw(60), extractor="raw") for _ in range(120)]
    expected = np.mean([f.value for f in found])
    assert np.mean([f.low <= expected <= f.high for f in found]) >= 0.88
    large = cmmd(*draw(3000), extractor="raw")
    assert np.mean([f.unbiased for f in found]) == pytest.approx(large.unbiased, rel=0.1)
    assert expected > 1.02 * large.unbiased  # the bias that `unbiased` is there to show


def test_few_pictures_give_none() -> None:
    assert cmmd(np.ones((15, 3)), np.ones((40, 3)), extractor="raw") is None
