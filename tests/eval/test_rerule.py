"""Figures with the old floor, ruled again: what a new evaluation would say."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from fakes import CAR, RETAINED, THINGS, ToyBank, ToyJudge, ToyModel

from oubliette.core.errors import UserError
from oubliette.eval.evaluate import compare
from oubliette.eval.leakage import ON_ANCHOR
from oubliette.eval.rerule import is_old, rerule
from oubliette.eval.result import Evaluation
from oubliette.eval.sample_store import SampleStore
from oubliette.eval.statistics import Rate, ratio_above_floor

OTHERS = [name for name in THINGS if name not in ("car", "neon")]


@pytest.fixture(scope="module")
def found() -> Evaluation:
    controls: tuple[Any, ...] = ("base", ("gold", ToyModel(OTHERS, "gold")))
    return compare(
        {"good": ToyModel(OTHERS)},
        ToyModel(),
        [CAR],
        judges=[ToyJudge()],
        n=20,
        bank=ToyBank(),
        retained=RETAINED,
        near={"car": "truck"},
        controls=controls,
    )


def as_it_was(evaluation: Evaluation) -> Evaluation:
    """With the anchor's rate as floor: here it would have been found in 5 of 20 of the anchor's pictures."""
    floor = Rate.mean(np.arange(20) < 5)
    rows = []
    for row in evaluation.rows:
        (car,) = row.concepts
        leaks = [
            replace(
                figure,
                floor=floor,
                anchor=None,
                ground=ON_ANCHOR,
                leakage=ratio_above_floor(figure.rate, figure.base, floor),
            )
            for figure in car.leakage
        ]
        rows.append(replace(row, concepts=[replace(car, leakage=leaks)]))
    return replace(evaluation, rows=rows)


def test_it_says_what_a_new_evaluation_does_but_for_the_anchors_own_rate(found: Evaluation) -> None:
    old = as_it_was(found)
    assert is_old(old)
    assert not is_old(found)
    cache = SampleStore()
    made = rerule(old, ToyModel(), judges=[ToyJudge()], cache=cache, bank=ToyBank())
    assert cache.drawn == 2 * 20  # the floor's pictures, in the words of two splits, and no others
    for row, now in zip(found.rows, made.rows, strict=True):
        for one, other in zip(row.concepts[0].leakage, now.concepts[0].leakage, strict=True):
            assert other.anchor is not None
            assert other.anchor.hits == 5
            assert replace(other, anchor=one.anchor) == one
        assert now.concepts[0].verdict == row.concepts[0].verdict
    assert any("erasing onto it leaves the concept" in note for note in made.notes)


def test_another_base_is_refused(found: Evaluation) -> None:
    with pytest.raises(UserError, match="was made of another base"):
        rerule(found, ToyModel(OTHERS), judges=[ToyJudge()], bank=ToyBank())
    with pytest.raises(UserError, match="its judge toy is not among those given"):
        rerule(found, ToyModel(), judges=[], bank=ToyBank())
