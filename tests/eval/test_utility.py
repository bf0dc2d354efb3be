"""UA, IRA and CRA by hand."""

from __future__ import annotations

import numpy as np
import pytest
from fakes import CAR, RETAINED

from oubliette.eval.utility import utility


def mask(text: str) -> np.ndarray:
    return np.array([letter == "x" for letter in text])


def test_by_hand() -> None:
    truck, boat, flat = RETAINED
    hits = {truck: mask("x.x....."), boat: mask("xxx."), flat: mask("x...")}
    base = {truck: mask("xxxxxxxx"), boat: mask("xxxx"), flat: mask("xx..")}
    found = utility(CAR, "truck", mask("x..."), hits, base, judge="j", each=4)
    assert found.ua.value == 0.75
    assert found.ira is not None
    assert (found.ira.rate.hits, found.ira.rate.n, found.ira.concepts) == (5, 8, 2)
    assert found.ira.ratio is not None
    assert found.ira.ratio.value == pytest.approx(5 / 8)
    assert found.ira_near is not None
    assert (found.ira_near.rate.hits, found.ira_near.rate.n) == (2, 8)
    assert found.ira_far is not None
    assert (found.ira_far.rate.hits, found.ira_far.rate.n) == (3, 4)
    assert found.cra is not None
    assert found.cra.ratio is not None
    assert (found.cra.rate.value, found.cra.base.value, found.cra.ratio.value) == (0.25, 0.5, 0.5)
    assert set(found.per_concept) == {"object: truck", "object: boat", "style: flat"}


def test_nothing_to_keep_is_not_a_figure() -> None:
    found = utility(CAR, None, mask("...."), {}, {}, judge="j")
    assert found.ua.value == 1.0
    assert found.ira is found.ira_near is found.ira_far is found.cra is None


def test_a_base_that_cannot_do_it_gives_no_ratio() -> None:
    boat = RETAINED[1]
    found = utility(CAR, None, mask("."), {boat: mask("x")}, {boat: mask(".")}, judge="j")
    assert found.ira is not None
    assert found.ira.ratio is None
