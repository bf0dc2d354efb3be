"""The unlearning benchmark's figures and findings against numbers worked out by hand."""

from __future__ import annotations

import math
from typing import Any

import pytest

from oubliette.bench.unlearning.figures import found, half_way, measures
from oubliette.bench.unlearning.plan import MEASURES, Finding, Plan
from oubliette.bench.unlearning.run import Outcome
from oubliette.bench.unlearning.table import finding_table, outcome_table
from oubliette.core.errors import UserError
from oubliette.core.validation import validated

TUNING = {"budget": {"steps": 4, "batch": 2, "pictures": 4}, "at": [1, 4]}


def outcome(
    subject: str,
    seed: int = 0,
    *,
    erased: float = 0.1,
    kept: float = 0.9,
    curve: tuple[float, ...] = (),
    **more: float,
) -> Outcome:
    states: dict[str, Any] = {
        "erased": {
            "forget": {"mcq": 0.25, "open_qa": erased},
            "withheld": {"open_qa": erased / 2},
            "retain": {"mcq": 1.0, "open_qa": kept},
            "skills": {"open_qa": 0.5},
        }
    }
    for step, value in zip((1, 3, 15), curve, strict=False):
        states[f"relearned at {step}"] = {"forget": {"mcq": value, "open_qa": value}}
    for name, value in more.items():
        states[name.replace("_", " ")] = {
            "forget": {"mcq": value, "open_qa": value},
            "retain": {"mcq": 1.0, "open_qa": 1 - value},
        }
    return Outcome(subject, seed, states, {"forget": 4})


def plan(*findings: dict[str, Any], names: tuple[str, ...] = ("A", "B", "C", "D")) -> Plan:
    subjects = [{"name": name, "model": name} for name in names]
    return validated(
        Plan,
        {"subjects": subjects, "relearn": TUNING, "unrelated": TUNING, "findings": list(findings)},
        "plan",
    )


def test_at_worst_is_the_most_of_what_was_to_go_and_the_least_of_what_must_stay() -> None:
    one = outcome(
        "A", curve=(0.2, 0.6, 0.4), minus_at_64=0.3, spelling_at_64=0.5, **{"8_bits": 0.1, "4_bits": 0.7}
    )
    states = {**one.states, "pressed: Sure": {"forget": {"open_qa": 0.35}}}
    made = measures(Outcome("A", 0, states, {}))
    assert set(made) == set(MEASURES) - {"jailbroken mcq"}
    assert made["relearned open"] == made["relearned mcq"] == 0.6
    assert made["unrelated open"] == 0.5
    assert made["quantized open"] == 0.7
    assert made["quantized kept"] == pytest.approx(0.3)
    assert made["jailbroken open"] == 0.35
    assert made["open, other words"] == 0.05
    assert "relearned open" not in measures(outcome("B"))


def test_half_way_is_where_the_line_in_log_steps_crosses() -> None:
    assert half_way(outcome("A", erased=0.6, curve=(0.7,)), 1.0) == 0.0
    assert half_way(outcome("A", erased=0.0, curve=(0.1, 0.2, 0.3)), 1.0) == math.inf
    # From 0.2 at step 1 to 0.6 at step 3 the half lies three quarters of the way, in log(1 + step).
    crossed = half_way(outcome("A", erased=0.0, curve=(0.2, 0.6)), 1.0)
    assert crossed == pytest.approx(2 * 2**0.75 - 1)
    assert half_way(outcome("A"), 1.0) is None


def test_pairs_are_by_seed_and_a_fall_is_a_yes() -> None:
    cells = [outcome("A", s, erased=0.1 + 0.01 * s) for s in range(3)]
    cells += [outcome("B", s, erased=0.3 + 0.02 * s) for s in range(3)]
    claim = {"says": "A lowers it", "measure": "open", "pairs": [["A", "B"]]}
    other = {"says": "B lowers it", "measure": "open", "pairs": [["B", "A"]]}
    alone = {"says": "C lowers it", "measure": "open", "pairs": [["C", "A"]]}
    one, two, none = found(plan(claim, other, alone), cells)
    assert (one.word, two.word, none.word) == ("yes", "no", "not run")
    # Differences -0.20, -0.21, -0.22: their mean, and t(2) = 4.303 times 0.01 / sqrt(3) on either side.
    assert one.value == pytest.approx(-0.21)
    assert one.high == pytest.approx(-0.21 + 4.3027 * 0.01 / math.sqrt(3), abs=1e-5)
    assert found(plan(claim), [outcome("A"), outcome("B", erased=0.9)])[0].word == "undecided"  # one pair


def test_groups_are_compared_over_erasers() -> None:
    cells = [outcome(name, kept=kept) for name, kept in zip("ABCD", (0.9, 0.8, 0.3, 0.2), strict=True)]
    claim = {"says": "A and B keep more", "measure": "kept open", "more": ["A", "B"], "less": ["C", "D"]}
    (one,) = found(plan(claim), cells)
    assert (one.word, one.n) == ("yes", 4)
    assert one.value == pytest.approx(0.6)
    (turned,) = found(plan({**claim, "more": ["C", "D"], "less": ["A", "B"]}), cells)
    assert turned.word == "no"
    (few,) = found(plan({**claim, "more": ["A"], "less": ["C"]}), cells)
    assert few.word == "undecided"  # an eraser a side says nothing of its kind


def test_ranks_need_four_erasers() -> None:
    cells = [outcome(name, erased=v, kept=v) for name, v in zip("ABCD", (0.1, 0.2, 0.3, 0.4), strict=True)]
    claim = {"says": "they go together", "measures": ["open", "kept open"]}
    (one,) = found(plan(claim), cells)
    assert one.value == pytest.approx(1.0)
    (few,) = found(plan(claim), cells[:3])
    assert (few.word, few.value) == ("undecided", None)


def test_tables_say_what_was_found() -> None:
    cells = [
        outcome("base", erased=1.0, curve=(1.0,)),
        outcome("A", 0, curve=(0.2, 0.6)),
        outcome("A", 1, curve=(0.1, 0.2)),
    ]
    table = outcome_table(cells, "base")
    assert "| base | 1 |" in table
    assert "| A | 2 |" in table
    assert "(1 of 2 not)" in table
    claim = {"says": "kept", "measure": "kept open", "pairs": [["A", "base"]]}
    rows = finding_table(found(plan(claim, names=("A", "base")), cells))
    assert "| kept | kept open |" in rows


@pytest.mark.parametrize(
    ("finding", "words"),
    [
        ({"says": "x", "measure": "opne", "pairs": [["A", "B"]]}, "did you mean 'open'"),
        ({"says": "x", "measure": "open"}, "give 'more' and 'less', or 'pairs', or 'measures'"),
        ({"says": "x", "measure": "open", "more": ["A"]}, "give 'more' and 'less'"),
        ({"says": "x", "measure": "open", "measures": ["open", "mcq"]}, "and not with 'measures'"),
        ({"says": "x", "measure": "open", "pairs": [["A", "E"]]}, "a finding names 'E'"),
    ],
)
def test_what_is_no_finding_is_said_in_one_line(finding: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match="plan") as caught:
        plan(finding)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_finding_is_one_of_three_forms() -> None:
    assert Finding(says="x", measures=("open", "mcq")).subjects() == []
