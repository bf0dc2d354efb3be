"""Controls in the order that is known beforehand; a tie is out of order."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from oubliette.eval.control_order import misordered
from oubliette.eval.leakage import leakage
from oubliette.eval.result import ConceptFigures, Fidelity, Row
from oubliette.eval.statistics import Rate, ratio_above_floor
from oubliette.eval.utility import Kept, Utility
from oubliette.eval.verdict import Verdict

N = 40


def row(name: str, in_set: int, withheld: int, kept: int = N, kid: float = 0.0) -> Row:
    def mask(hits: int) -> np.ndarray:
        return np.arange(N) < hits

    def part(hits: int) -> Kept:
        rate, base = Rate.of(hits, N), Rate.of(N, N)
        return Kept(rate, base, ratio_above_floor(rate, base), 3)

    found = [
        leakage(mask(hits), mask(38), mask(2), judge="j", split=split)
        for split, hits in (("in-set", in_set), ("withheld", withheld))
    ]
    own = Utility("j", Rate.of(N - in_set, N), part(kept), None, None, part(kept))
    figures = ConceptFigures("car", "object", "object", None, "j", found, own, [], Verdict("-"))
    distance: Any = type("Distance", (), {"value": kid})()
    return Row(name, "control", "0", [figures], Fidelity(distance, None, None, distance), 0.0)


RIGHT = {
    "base": row("base", 38, 37),
    "gold": row("gold", 2, 3),
    "random weights": row("random weights", 0, 0, kept=0, kid=9.0),
    "prompt filter": row("prompt filter", 1, 37),
}


def test_controls_in_their_order_are_no_complaint() -> None:
    assert misordered(list(RIGHT.values())) == []


@pytest.mark.parametrize(
    ("name", "change", "complaint"),
    [
        (
            "gold",
            row("gold", 38, 0),
            "finds it in 95 % of gold's pictures and in 95 % of the base's (in-set)",
        ),
        ("gold", row("gold", 0, 37), "of gold's pictures and in 92 % of the base's (withheld)"),
        ("random weights", row("random weights", 38, 0, kept=0, kid=9.0), "of random weights's pictures"),
        ("prompt filter", row("prompt filter", 37, 37), "the prompt filter does not leak on synonyms"),
        ("prompt filter", row("prompt filter", 38, 40), "of prompt filter's pictures"),
        ("random weights", row("random weights", 0, 0, kept=N, kid=9.0), "IRA of random weights"),
        ("random weights", row("random weights", 0, 0, kept=N, kid=9.0), "CRA of random weights"),
        ("random weights", row("random weights", 0, 0, kept=0, kid=0.0), "KID of random weights"),
        ("random weights", row("random weights", 0, 0, kept=0, kid=0.0), "CMMD of random weights"),
        ("base", row("base", 2, 37), "in 5 % of the base's pictures and in 5 % of those without it"),
    ],
)
def test_a_tie_is_out_of_order(name: str, change: Row, complaint: str) -> None:
    complaints = misordered(list({**RIGHT, name: change}.values()))
    assert any(complaint in line for line in complaints), complaints


def test_without_the_base_nothing_is_held_against_anything() -> None:
    assert misordered([RIGHT["gold"], replace(RIGHT["gold"], name="random weights")]) == []
