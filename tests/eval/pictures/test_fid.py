"""FID against the closed form for Gaussians, and its refusal."""

from __future__ import annotations

import numpy as np
import pytest

from oubliette.core.errors import UserError
from oubliette.eval.pictures.fid import FEWEST, fid, refusal


def exactly(rng: np.random.Generator, mean: list[float], spread: list[float], n: int = FEWEST) -> np.ndarray:
    """n rows whose sample mean and covariance are exactly these (independent columns of these deviations)."""
    rows = rng.normal(size=(n, len(mean)))
    rows -= rows.mean(0)
    whiten = np.linalg.inv(np.linalg.cholesky(np.cov(rows, rowvar=False)))
    return rows @ whiten.T * np.array(spread) + np.array(mean)


def test_two_gaussians_by_the_closed_form() -> None:
    rng = np.random.default_rng(0)
    a, b = [1.0, 2.0, 0.5], [2.0, 1.0, 0.5]
    found = fid(exactly(rng, [0, 0, 0], a), exactly(rng, [1, -2, 0], b), extractor="raw")
    wanted = 1 + 4 + sum((p - q) ** 2 for p, q in zip(a, b, strict=True))
    assert found.value == pytest.approx(wanted, rel=1e-6)
    assert found.low < found.value < found.high
    assert found.high - found.low < 0.2 * wanted
    assert (found.extractor, found.n, found.n_reference) == ("raw", FEWEST, FEWEST)


def test_turned_gaussians_by_the_closed_form() -> None:
    """With covariances that commute, a common turn changes nothing."""
    rng = np.random.default_rng(1)
    turn, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    x, y = exactly(rng, [0, 0, 0], [1, 2, 3]), exactly(rng, [0, 1, 0], [3, 2, 1])
    assert fid(x @ turn, y @ turn, extractor="raw").value == pytest.approx(1 + 4 + 0 + 4, rel=1e-6)


def test_the_interval_does_not_hang_on_the_seed_s_luck() -> None:
    rng = np.random.default_rng(2)
    x, y = rng.normal(size=(FEWEST, 2)), rng.normal(0.5, 1, size=(FEWEST, 2))
    one, other = fid(x, y, extractor="raw"), fid(x, y, extractor="raw", seed=1)
    assert one == fid(x, y, extractor="raw")
    assert one.value == other.value
    assert one.low < 0.5 < one.high  # twice 0.25 is what the shift alone makes of it


@pytest.mark.parametrize(("n", "m"), [(FEWEST - 1, FEWEST), (FEWEST, FEWEST - 1), (50, 50)])
def test_few_pictures_are_refused_with_a_word_why(n: int, m: int) -> None:
    with pytest.raises(UserError, match=r"bias depends on n.*KID and CMMD hold at small n") as error:
        fid(np.zeros((n, 2)), np.zeros((m, 2)), extractor="raw")
    assert f"found {n} pictures against {m}" in str(error.value)
    assert "\n" not in str(error.value)
    assert refusal(FEWEST, FEWEST) is None
