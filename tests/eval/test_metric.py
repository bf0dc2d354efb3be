"""Figures and their intervals, the registry and what its members promise, the meter."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from oubliette.core.errors import UserError
from oubliette.eval.meter import Meter
from oubliette.eval.metric import (
    METRICS,
    Figure,
    Items,
    Metric,
    Seen,
    by_metric,
    interval_of,
    number,
    resampled,
)
from oubliette.eval.metric import open_metric as opened
from oubliette.eval.statistics import wilson


def test_booleans_have_wilson_s_interval_and_numbers_a_bootstrap() -> None:
    mask = np.array([True, False, True, True])
    assert interval_of(mask) == ((0.75, *wilson(3, 4)), "Wilson")
    values = np.array([0.1, 0.4, 0.2, 0.9, 0.3])
    (value, low, high), how = interval_of(values)
    rng = np.random.default_rng(0)
    means = [values[rng.integers(5, size=5)].mean() for _ in range(2000)]
    assert (value, how) == (pytest.approx(values.mean()), "bootstrap")
    assert [low, high] == pytest.approx(list(np.quantile(means, [0.025, 0.975])), abs=0.03)
    assert interval_of(values) == interval_of(values.copy())
    (middle, *_), _ = interval_of(values, np.median)
    assert middle == 0.3


def test_what_cannot_be_bounded_is_not() -> None:
    assert interval_of(np.array([0.5])) == ((0.5, None, None), "")
    (value, low, high), how = interval_of(np.array([1.0, np.inf]))
    assert (value, low, high, how) == (np.inf, None, None, "")
    assert resampled(7).shape == (2000, 7)
    assert resampled(7).max() == 6


@pytest.mark.parametrize("name", METRICS.names())
def test_every_metric_says_what_it_is(name: str) -> None:
    metric = opened(name)
    assert isinstance(metric, Metric)
    assert metric.name == name
    for part in metric.better.split("/"):
        assert part in ("higher", "lower", "0", "0.5")
    first = METRICS.about(name)["__doc__"].split("\n\n")[0]
    assert 20 < len(" ".join(first.split())) < 130
    assert first.endswith(".")


def test_unknown_ones_are_named() -> None:
    with pytest.raises(UserError, match="no metric is called 'truth_rato'; did you mean 'truth_ratio'"):
        opened("truth_rato")


def test_numbers_are_printed_to_be_read() -> None:
    assert [number(x) for x in (0.0, 0.5, 0.001, 0.00042, -12.3456, 123.456, 2e9)] == [
        *("0.000", "0.500", "0.001", "4.20e-04", "-12.346", "123.5", "2.00e+09")
    ]
    assert str(Figure("m", "x", "forget", 0.5, 0.25, 0.75, 4, "Wilson", "lower")) == "0.500 [0.250, 0.750]"
    assert str(Figure("m", "x", "forget", 0.5, None, 0.75, 4, "", "lower")) == "0.500"
    assert str(Figure("m", "x", "forget", None, None, None, 4, "", "lower")) == "not finite"


class Count(Metric):
    """How many items there are."""

    better = "lower/higher"

    def check(self, sets: Any) -> list[str]:
        return []

    def observe(self, subject: Any) -> dict[str, Items]:
        return {"forget": Items(("a", "b"), np.array([subject.number, np.nan]))}

    def figures(self, row: str, seen: Seen) -> list[Figure]:
        against = [items["forget"].values[0] for items in (seen.gold, seen.base) if items is not None]
        value = seen.own["forget"].values[0] - sum(against) - seen.subject.number
        return [self.figure(row, "forget", seen.own["forget"], (value, None, None), "")]


def test_rows_are_asked_once_and_figures_made_at_the_end() -> None:
    metric = Count()
    metric.name = "count"
    meter = Meter([metric], lambda sampler: sampler)
    rows: Any = [SimpleNamespace(name=n, number=v) for n, v in (("base", 1.0), ("m", 10.0), ("gold", 4.0))]
    for row in rows:
        meter.look(row)
    (figure,) = meter.figures("m", "base", "gold")
    assert figure.value == 10 - 4 - 1 - 1
    assert figure.items == {"a": 10.0, "b": None}
    assert json.dumps(figure.items, allow_nan=False)
    (alone,) = meter.figures("m", "base", None)
    assert alone.value == 10 - 1 - 1
    assert meter.kept("m", "base") == []
    table = by_metric([figure, *meter.figures("base", "base", "gold")])
    assert list(table) == [("count", "forget", "lower")]
    assert set(table["count", "forget", "lower"]) == {"m", "base"}
    assert metric.direction("retain") == "higher"
