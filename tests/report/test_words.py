"""Figures as words."""

from __future__ import annotations

import pytest
from synthetic import make_evaluation

from oubliette.eval.statistics import Estimate, McNemar, Rate
from oubliette.report import words


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        (words.rate(Rate.of(2, 50)), "4 % (2 of 50)"),
        (words.rate(None), "–"),
        (words.interval(Rate.of(0, 50)), "[0, 7]"),
        (words.estimate(Estimate(0.25, -0.02, None, 9)), "25 % [0, 100], too few pictures"),
        (words.estimate(Estimate(-0.001, None, 0.1, 9)), "0 % [0, 10], too few pictures"),
        (words.estimate(None), "–"),
        (words.shown(Estimate(-0.04, -0.1, 0.1, 9)), "0 %"),
        (words.plain(Estimate(0.1234, 0.1, 0.2, 9)), "0.123 [0.100, 0.200]"),
        (words.plain(Estimate(0.5, None, None, 1)), "0.500"),
        (words.p_value(McNemar(9, 0, 0.0001)), "p < 0.001"),
        (words.p_value(McNemar(9, 0, 0.0321)), "p = 0.032"),
        (words.p_value(McNemar(1, 1, 1.0)), "p = 1.00"),
        (words.changed(McNemar(9, 2, 0.1)), "9 lost, 2 gained"),
        (words.seconds(0.44), "0.4 s"),
        (words.seconds(72), "72 s"),
        (words.seconds(185.4), "3 min 05 s"),
        (words.joined(["a", "b", "c"]), "a, b and c"),
        (words.joined(["a"]), "a"),
        (words.chip_class("suppressed on prompts"), "v-suppressed-on-prompts"),
        (words.short("models/nano/"), "nano"),
    ],
)
def test_words(made: str, expected: str) -> None:
    assert made.replace("\u00a0", " ") == expected


def test_headlines() -> None:
    evaluation = make_evaluation()
    assert words.headline(evaluation.row("DoCo")) == "suppressed on prompts for all 3 concepts"
    assert words.headline(evaluation.row("base")) == "not erased for all 3 concepts"


def test_the_bases_own_row_carries_its_name() -> None:
    evaluation = make_evaluation()
    assert words.label("base", evaluation) == "nano (base)"
    assert words.label("gold", evaluation) == "gold"
