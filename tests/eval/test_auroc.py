"""AUROC against counting pairs, DeLong's variance against its definition, and intervals at the ends."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from oubliette.eval.auroc import auroc


def pairs(scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """1, 1/2 or 0 for each positive (row) and negative (column)."""
    above, below = scores[labels], scores[~labels]
    return np.array([[1.0 if a > b else 0.5 if a == b else 0.0 for b in below] for a in above])


@given(st.lists(st.tuples(st.integers(-3, 3), st.booleans()), min_size=2, max_size=40))
def test_the_value_is_a_count_of_pairs(rows: list[tuple[int, bool]]) -> None:
    scores, labels = np.array([s for s, _ in rows], float), np.array([flag for _, flag in rows])
    found = auroc(scores, labels)
    if labels.all() or not labels.any():
        assert found is None
        return
    assert found is not None
    assert found.value == pytest.approx(pairs(scores, labels).mean())
    assert 0 <= found.low <= found.value <= found.high <= 1
    assert found.low < found.high
    assert (found.positives, found.negatives) == (labels.sum(), (~labels).sum())


def test_the_interval_is_delong_s_on_the_logit_scale() -> None:
    rng = np.random.default_rng(0)
    labels = np.arange(50) < 20
    scores = np.round(rng.normal(labels.astype(float), 1), 1)
    table = pairs(scores, labels)
    variance = table.mean(1).var(ddof=1) / 20 + table.mean(0).var(ddof=1) / 30
    value = table.mean()
    half = 1.959964 * np.sqrt(variance) / (value * (1 - value))
    found = auroc(scores, labels)
    assert found is not None
    assert found.interval == "DeLong"
    ends = [1 / (1 + np.exp(-(np.log(value / (1 - value)) + sign * half))) for sign in (-1, 1)]
    assert [found.low, found.high] == pytest.approx(ends, rel=1e-6)


def test_what_is_fully_apart_has_an_interval_that_narrows() -> None:
    def apart(n: int) -> tuple[float, float, float, str]:
        labels = np.arange(2 * n) < n
        found = auroc(labels.astype(float), labels)
        assert found is not None
        return found.value, found.low, found.high, found.interval

    few, many = apart(10), apart(100)
    assert few[0] == few[2] == many[0] == many[2] == 1.0
    assert 0.6 < few[1] < 0.9 < many[1] < 1.0
    assert few[3] == "Newcombe"
    labels = np.arange(20) < 10
    turned = auroc(-labels.astype(float), labels)
    assert turned is not None
    assert (turned.value, turned.low) == (0.0, 0.0)
    assert turned.high == pytest.approx(1 - few[1])


def test_a_constant_score_says_nothing() -> None:
    labels = np.arange(40) < 20
    found = auroc(np.zeros(40), labels)
    assert found is not None
    assert found.value == 0.5
    assert found.low < 0.4 < 0.6 < found.high


def test_intervals_cover_the_truth() -> None:
    """Of 300 intervals for two normals a deviation apart (area Phi(1/sqrt 2)) at least 92 % hold it."""
    rng, truth = np.random.default_rng(1), 0.7602
    labels = np.arange(60) < 25
    found = [auroc(rng.normal(labels.astype(float), 1), labels) for _ in range(300)]
    assert np.mean([f.low <= truth <= f.high for f in found if f]) >= 0.92


def test_agreement_with_scikit_learn() -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(2)
    labels = rng.random(200) < 0.3
    scores = np.round(rng.normal(labels, 1), 1)
    found = auroc(scores, labels)
    assert found is not None
    assert found.value == pytest.approx(metrics.roc_auc_score(labels, scores))


def test_bad_calls_say_what_is_wrong() -> None:
    with pytest.raises(ValueError, match=r"must be \(n,\)"):
        auroc(np.zeros(3), np.zeros(2, bool))
    with pytest.raises(ValueError, match="found 1 that are none"):
        auroc(np.array([np.nan, 1.0]), np.array([True, False]))
