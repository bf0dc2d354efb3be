"""Numbers as people read them: one form, from one place."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import oubliette
from oubliette.core import numbers
from oubliette.eval.statistics import Estimate
from oubliette.eval.verdict import Bounds, describe


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        (numbers.percent(0.1), "10 %"),
        (numbers.percent(-0.12), "−12 %"),
        (numbers.percent(-0.001), "0 %"),
        (numbers.percent(0.0456, ".1f"), "4.6 %"),
        (numbers.percent(0.3, "g"), "30 %"),
        (numbers.number(0.03, "+.0f"), "+3"),
        (numbers.number(-0.001, "+.0f"), "0"),
        (numbers.ends(-0.02, 0.125), "[−2, 12]"),
        (numbers.ends(None, None), "[−∞, ∞]"),
        (numbers.plain("-0.000"), "0.000"),
        (numbers.unbroken("10 % [1, 9] of it (8 of 50)"), "10\u00a0% [1,\u00a09] of it (8\u00a0of\u00a050)"),
        (describe(Estimate(-0.12, None, 0.08, 9)), "−12 % [−∞, 8]"),
        (str(Bounds(leakage=0.1)).split(",")[0], "leakage at most 10 %"),
    ],
)
def test_forms(made: str, expected: str) -> None:
    assert made == expected


def test_no_other_part_of_the_package_writes_per_cent_its_own_way() -> None:
    """ "10%" in an f-string, and the hundredfold of a share with its unit, stand in `numbers` alone."""
    own = re.compile(r":[^{}\n]*%\}|\{100 \* [^{}]*\} ?%|\{[^{}]* \* 100[^{}]*\} ?%")
    root = Path(oubliette.__file__).parent
    found = [
        f"{path.relative_to(root)}:{number}"
        for path in sorted(root.rglob("*.py"))
        if path.name != "numbers.py"
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1)
        if own.search(line)
    ]
    assert found == []
