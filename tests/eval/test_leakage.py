"""Leakage by hand."""

from __future__ import annotations

import numpy as np
import pytest

from oubliette.eval.leakage import leakage


def mask(hits: int, n: int) -> np.ndarray:
    return np.arange(n) < hits


def test_leakage_by_hand() -> None:
    """Rate 12 of 40, base 36 of 40, floor 2 of 20: (0.3 - 0.1) / (0.9 - 0.1) = 0.25."""
    found = leakage(mask(12, 40), mask(36, 40), mask(2, 20), judge="j", split="in-set")
    assert found.leakage is not None
    assert found.leakage.value == pytest.approx(0.25)
    assert found.leakage.low < 0.25 < found.leakage.high
    assert (found.rate.hits, found.base.hits, found.floor.hits) == (12, 36, 2)
    assert (found.change.before_only, found.change.after_only) == (24, 0)
    assert (found.judge, found.split, found.note) == ("j", "in-set", "")


@pytest.mark.parametrize(("hits", "expected"), [(36, 1.0), (4, 0.0), (0, -0.125)])
def test_base_is_one_and_floor_is_zero(hits: int, expected: float) -> None:
    found = leakage(mask(hits, 40), mask(36, 40), mask(4, 40), judge="j", split="s")
    assert found.leakage is not None
    assert found.leakage.value == pytest.approx(expected)


def test_a_base_that_does_not_show_the_concept_has_no_leakage() -> None:
    found = leakage(mask(0, 40), mask(2, 40), mask(2, 40), judge="j", split="s")
    assert found.leakage is None
    assert "the base shows the concept in 5 %" in found.note
