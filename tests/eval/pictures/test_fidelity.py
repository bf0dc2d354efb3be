"""KID against a brute-force MMD, and distances of pairs by hand."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from oubliette.eval.pictures import fidelity


def brute_force(x: np.ndarray, y: np.ndarray) -> float:
    """Unbiased squared MMD with (a.b / d + 1)^3, summed pair by pair."""

    def kernel(a: np.ndarray, b: np.ndarray) -> float:
        return (float(sum(p * q for p, q in zip(a, b, strict=True))) / len(a) + 1) ** 3

    m = len(x)
    within = sum(kernel(x[i], x[j]) + kernel(y[i], y[j]) for i, j in itertools.permutations(range(m), 2))
    across = sum(kernel(a, b) for a in x for b in y)
    return within / (m * (m - 1)) - 2 * across / (m * m)


def test_kid_is_the_mean_of_brute_force_mmds_over_its_subsets() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(20, 6)), rng.normal(0.4, 1.2, size=(24, 6))
    found = fidelity.kid(x, y, extractor="raw", subsets=5, seed=7)
    assert found is not None
    picks = np.random.RandomState(7)
    size = fidelity.subset_size(20)
    by_hand = []
    for _ in range(5):
        first = x[picks.choice(20, size, replace=False)]
        by_hand.append(brute_force(first, y[picks.choice(24, size, replace=False)]))
    assert found.value == pytest.approx(np.mean(by_hand), rel=1e-9)
    assert found.std == pytest.approx(np.std(by_hand), rel=1e-9)
    assert (found.subset_size, found.n, found.n_reference, found.extractor) == (10, 20, 24, "raw")


def test_kid_is_near_zero_for_one_distribution_and_grows_with_the_shift() -> None:
    rng = np.random.default_rng(1)
    reference = rng.normal(size=(200, 4))
    values = [
        fidelity.kid(rng.normal(s, 1, (200, 4)), reference, extractor="raw").value for s in (0.0, 0.5, 1.0)
    ]
    assert abs(values[0]) < 0.05
    assert values[0] < values[1] < values[2]


def test_kid_of_too_few_pictures_is_not_given() -> None:
    assert fidelity.kid(np.zeros((15, 3)), np.zeros((40, 3)), extractor="raw") is None


@pytest.mark.parametrize(("n", "size"), [(16, 8), (100, 50), (5000, 1000)])
def test_subsets_are_half_the_pictures_and_at_most_a_thousand(n: int, size: int) -> None:
    assert fidelity.subset_size(n) == size


def test_pixel_distance_by_hand() -> None:
    black, white = np.zeros((2, 4, 4, 3), np.uint8), np.full((2, 4, 4, 3), 255, np.uint8)
    half = black.copy()
    half[0, :2] = 255
    assert fidelity.pixel_distances(black, white).tolist() == [1.0, 1.0]
    assert fidelity.pixel_distances(black, half) == pytest.approx([np.sqrt(0.5), 0.0])


def test_feature_distance_by_hand() -> None:
    a = np.array([[1.0, 0.0], [2.0, 0.0], [1.0, 1.0]])
    b = np.array([[3.0, 0.0], [0.0, 5.0], [-1.0, -1.0]])
    assert fidelity.feature_distances(a, b) == pytest.approx([0.0, 1.0, 2.0])


def test_pairs_must_fit() -> None:
    with pytest.raises(ValueError, match="one shape"):
        fidelity.pixel_distances(np.zeros((1, 2, 2, 3), np.uint8), np.zeros((2, 2, 2, 3), np.uint8))
    with pytest.raises(ValueError, match="one shape"):
        fidelity.feature_distances(np.zeros((1, 2)), np.zeros((1, 3)))
