"""Comparisons in words: sooner, later and as soon, with ends and signs turned over where the factor is."""

from __future__ import annotations

import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oubliette.audit.against import gap, pace
from oubliette.audit.result import NOVEL, LeakageGap, RelearningAdvantage
from oubliette.audit.sentences import advantage
from oubliette.report import audit_words


def found(
    value: float | None, low: float | None, high: float | None, sign: str = "=", **more: str
) -> RelearningAdvantage:
    """An advantage from factors, not logarithms."""
    logs = [None if one is None else math.log(one) for one in (value, low, high)]
    note = "neither got back to 50 %" if value is None else ""
    return RelearningAdvantage(0.5, "told", *logs, sign, [logs[0]], "pictures", note, **more)


CASES: dict[str, tuple[RelearningAdvantage, str]] = {
    "sooner": (found(4.2, 3.0, 6.1), "4.2 times sooner than in gold [3, 6.1]"),
    "later": (found(0.2, 1 / 9, 1 / 1.2), "5 times later than in gold [1.2, 9]"),
    "equal": (found(1, 0.8, 1.3), "as soon as in gold [0.8, 1.3]"),
    "nearly equal": (found(0.98, 0.8, 1.3), "as soon as in gold [0.8, 1.3]"),
    "across": (found(0.5, 0.25, 1.25), "2 times later than in gold [0.8, 4]"),
    "open above": (found(7, 4.5, None, ">"), "more than 7 times sooner than in gold [4.5, ?]"),
    "open below": (found(0.1, None, 0.5, "<"), "more than 10 times later than in gold [2, ?]"),
    "an upper bound above 1": (found(3, None, 5, "<"), "less than 3 times sooner than in gold [?, 5]"),
    "a lower bound below 1": (found(0.25, 0.2, None, ">"), "less than 4 times later than in gold [?, 5]"),
    "gold just missed it": (found(1, 1, None, ">"), "sooner than in gold [1, ?]"),
    "the model just missed it": (found(1, None, 1, "<"), "later than in gold [?, 1]"),
    "far": (found(63, 40.4, 99.6), "63 times sooner than in gold [40, 100]"),
    "a small end": (found(2, 0.042, 50), "2 times sooner than in gold [0.042, 50]"),
    "unknown": (found(None, None, None), "neither got back to 50 %"),
    "novel": (found(4.2, 3.0, 6.1, against=NOVEL), "4.2 times sooner than the novel concept [3, 6.1]"),
    "novel, equal": (found(1, 1, 1, against=NOVEL), "as soon as the novel concept [1, 1]"),
}


@pytest.mark.parametrize("case", CASES)
def test_pace(case: str) -> None:
    made, said = CASES[case]
    assert pace(made) == said
    assert audit_words.sooner(made) == said
    if made.value is not None:
        assert advantage(made) == f"50 % back {said}"


@given(st.floats(-6, 6), st.floats(0, 3), st.floats(0, 3))
def test_a_factor_below_1_is_never_said_and_holds_its_interval(value: float, down: float, up: float) -> None:
    """Whichever way it is put, the factor is 1 or more and lies between its ends; both ways are mirrored."""
    one = RelearningAdvantage(0.5, "told", value, value - down, value + up, "=", [], "", "")
    other = RelearningAdvantage(0.5, "told", -value, -value - up, -value + down, "=", [], "", "")
    said, turned = pace(one), pace(other)
    if said.startswith("as soon"):
        assert turned.startswith("as soon")
        return
    low, high = (float(end) for end in re.findall(r"\[(.*), (.*)\]", said)[0])
    factor = float(said.split()[0])
    assert factor >= 1
    # Ends and factor are rounded to two figures, or to one unit above ten.
    assert low * 0.94 - 0.06 <= factor <= high * 1.06 + 0.5
    assert turned == said.replace("sooner", "x").replace("later", "sooner").replace("x", "later")


def test_gap() -> None:
    assert gap(LeakageGap(0.07, -0.05, 0.21, 32, "")) == "7 % [−5, 21] above gold"
    assert gap(LeakageGap(-0.07, -0.21, 0.05, 32, "")) == "7 % [−5, 21] below gold"
    assert gap(LeakageGap(0.0, -0.08, 0.08, 32, "")) == "0 % [−8, 8] above gold"
    assert gap(LeakageGap(-0.001, -0.08, 0.08, 32, "")) == "0 % [−8, 8] above gold"
    both = [LeakageGap(-0.02, -0.11, 0.06, 50, "in-set"), LeakageGap(0.5, 0.4, 0.6, 50, "")]
    assert audit_words.excess(both) == (
        "in-set: 2\u00a0% [−6,\u00a011] below gold; 50\u00a0% [40,\u00a060] above gold"
    )
