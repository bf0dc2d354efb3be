"""Suites: what ships is valid, what is wrong is refused with the nearest right word."""

from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml

from oubliette.audit.read_suite import build_suite, read_suite, suite_names, suite_text
from oubliette.audit.suite import log_spaced
from oubliette.core.errors import UserError

EVALUATION = {"row": "evaluation"}


@pytest.mark.parametrize("name", ["quick", "standard", "full", "bench", "answers"])
def test_shipped_suites_are_valid_and_copied_ones_are_the_same(name: str, tmp_path: Path) -> None:
    assert name in suite_names()
    copy = tmp_path / "mine.yaml"
    copy.write_text(suite_text(name))
    assert read_suite(copy) == read_suite(name)
    again = yaml.safe_dump(read_suite(name).model_dump(mode="json"))
    assert build_suite(yaml.safe_load(again)) == read_suite(name)


def test_the_tiers_are_what_the_issue_asks_for() -> None:
    quick, standard, full = (read_suite(name) for name in ("quick", "standard", "full"))
    assert (quick.seeds, quick.points, quick.pictures) == (1, 5, 32)
    assert {row.attack for row in quick.rows if row.kind in ("relearn", "benign")} == {"F2", "L1", "T1", "B1"}
    assert standard.seeds >= 3
    assert full.seeds >= 3
    from oubliette.attack.catalogue import catalogue

    used = {row.attack for row in full.rows if row.kind in ("relearn", "benign")}
    known = {name: one.samples for name, one in catalogue().items() if not name.endswith("-nano")}
    assert {name for name, made in known.items() if made == "pictures"} <= used
    asked = {row.attack for row in read_suite("answers").rows if row.kind in ("relearn", "benign")}
    assert asked - {None} == {"R1", "R4", "O1"}
    assert all(known[name] == "answers" for name in asked - {None})


def test_row_names_differ() -> None:
    rows = [EVALUATION, *({"row": "relearn", "attack": "F2"} for _ in range(3))]
    ids = build_suite({"rows": rows}).ids()
    assert len(set(ids)) == 4
    assert ids[1] == "02-relearn-f2"


WRONG: dict[str, tuple[Any, str]] = {
    "no mapping": ([], "expected keys with values"),
    "no rows": ({}, "'rows' is missing"),
    "empty": ({"rows": []}, "at least one row"),
    "unknown key": ({"rows": [EVALUATION], "seedz": 1}, "did you mean 'seeds'"),
    "unknown bound": ({"rows": [EVALUATION], "limits": {"leakge": 0.1}}, "did you mean 'leakage'"),
    "unknown row": ({"rows": [{"row": "relern"}]}, "did you mean 'relearn'"),
    "a row that is a word": ({"rows": ["relearn"]}, "row 1: expected keys"),
    "no evaluation": ({"rows": [{"row": "relearn", "attack": "F2"}]}, "no row 'evaluation'"),
    "two evaluations": ({"rows": [EVALUATION, EVALUATION]}, "more than one row 'evaluation'"),
    "zero pictures": ({"rows": [EVALUATION], "pictures": 0}, "'pictures'"),
    "zero seeds": ({"rows": [EVALUATION], "seeds": 0}, "'seeds'"),
    "unknown control": ({"rows": [{**EVALUATION, "controls": ["golden"]}]}, "did you mean 'gold'"),
}
WRONG_ROWS: dict[str, tuple[dict[str, Any], str]] = {
    "unknown key": ({"row": "relearn", "attack": "F2", "budgets": {}}, "did you mean 'budget'"),
    "unknown attack": ({"row": "relearn", "attack": "F22"}, "did you mean 'F2'"),
    "neither": ({"row": "relearn"}, "give 'attack'"),
    "unknown mode": ({"row": "relearn", "mode": "fulll"}, "did you mean 'full'"),
    "zero steps": ({"row": "relearn", "attack": "F2", "budget": {"steps": 0}}, "'steps'"),
    "zero nano": ({"row": "relearn", "attack": "F2", "nano": {"pictures": 0}}, "'pictures'"),
    "unknown budget": ({"row": "relearn", "attack": "F2", "budget": {"stepz": 1}}, "did you mean 'steps'"),
    "benign as relearn": ({"row": "relearn", "attack": "B1"}, "row: benign"),
    "relearn as benign": ({"row": "benign", "attack": "F2"}, "row: relearn"),
    "no step 0": ({"row": "relearn", "attack": "F2", "at": [1, 2]}, "begin with 0"),
    "steps that fall": ({"row": "relearn", "attack": "F2", "at": [0, 4, 2]}, "begin with 0"),
    "unknown key of a sweep": (
        {"row": "relearn", "attack": "F2", "sweep": {"learning_rate": [1e-3]}},
        "did you mean 'learning_rates'",
    ),
    "a rate of zero": ({"row": "relearn", "attack": "F2", "sweep": {"learning_rates": [0]}}, "above 0"),
    "a rate twice": (
        {"row": "relearn", "attack": "F2", "sweep": {"learning_rates": [1, 1]}},
        "none of them twice",
    ),
    "trials of a grid": ({"row": "relearn", "attack": "F2", "sweep": {"trials": 4}}, "'search: optuna'"),
    "nothing to sweep": ({"row": "relearn", "mode": "full", "sweep": True}, "names no learning rates"),
    "a sweep that is a word": ({"row": "relearn", "attack": "F2", "sweep": "yes"}, "'sweep'"),
    "unknown prompts": ({"row": "prompts", "attack": "paraphase"}, "did you mean 'paraphrase'"),
    "unknown option": (
        {"row": "prompts", "attack": "paraphrase", "options": {"trys": 1}},
        "did you mean 'tries'",
    ),
    "zero cases": ({"row": "prompts", "attack": "paraphrase", "cases": 0}, "'cases'"),
    "unknown probe": ({"row": "probe", "probe": "inpait"}, "did you mean 'inpaint'"),
    "cases of all": ({"row": "probe", "probe": "quantize", "cases": 3}, "'quantize' has no 'cases'"),
    "bits of none": ({"row": "probe", "probe": "quantize", "options": {"bits": 1}}, "'bits'"),
    "hole of nothing": ({"row": "probe", "probe": "inpaint", "options": {"side": 0}}, "'side'"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_refused(case: str) -> None:
    content, said = WRONG[case]
    with pytest.raises(UserError) as refused:
        build_suite(content, "suite mine.yaml")
    assert said in str(refused.value)
    assert str(refused.value).startswith("suite mine.yaml: ")


@pytest.mark.parametrize("case", WRONG_ROWS)
def test_a_wrong_row_is_refused_with_its_number(case: str) -> None:
    row, said = WRONG_ROWS[case]
    with pytest.raises(UserError) as refused:
        build_suite({"rows": [EVALUATION, row]})
    assert said in str(refused.value)
    assert "row 2" in str(refused.value)


def test_files_that_are_no_suites(tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text("rows: [")
    for source, said in ((tmp_path / "bad.yaml", "not YAML"), (tmp_path / "none.yaml", "cannot be read")):
        with pytest.raises(UserError, match=said):
            read_suite(source)
    with pytest.raises(UserError, match="did you mean 'quick'"):
        read_suite("quik")


def test_points_are_even_in_the_logarithm() -> None:
    assert log_spaced(15, 5) == [0, 1, 3, 7, 15]  # 1 + step = 1, 2, 4, 8, 16
    assert log_spaced(80, 5) == [0, 2, 8, 26, 80]  # 1, 3, 9, 27, 81
    assert log_spaced(1, 9) == [0, 1]
    for last in (3, 64, 1000):
        steps = log_spaced(last, 7)
        assert (steps[0], steps[-1]) == (0, last)
        assert steps == sorted(set(steps))
        gaps = [math.log1p(b) - math.log1p(a) for a, b in pairwise(steps) if a >= 20]
        assert all(abs(gap - gaps[0]) < 0.1 for gap in gaps)
