"""What rows are called: a model by its folder, the base "base"; files of older versions still open."""

from __future__ import annotations

import json

import pytest
from fakes import CAR, THINGS, ToyBank, ToyJudge, ToyModel

from oubliette.core.errors import UserError
from oubliette.eval.controls import check_control
from oubliette.eval.evaluate import compare, evaluate
from oubliette.eval.result import Evaluation
from oubliette.eval.rows import row_name

OTHERS = [name for name in THINGS if name not in ("car", "neon")]


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("runs/car-free/", "car-free"),
        ("someone/sd-without-cars", "sd-without-cars"),
        ("nano", "nano"),
        ("/", "/"),
        # A folder called as a control is does not pass for one.
        ("runs/gold", "gold (model)"),
        ("base", "base (model)"),
        ("none", "none (model)"),
    ],
)
def test_a_row_is_called_as_the_folder(source: str, expected: str) -> None:
    assert row_name(source) == expected


def _measured(control: str = "none") -> Evaluation:
    model = ToyModel(OTHERS, "runs/car-free")
    return evaluate(model, ToyModel(), [CAR], judges=[ToyJudge()], bank=ToyBank(), n=4, controls=[control])


def test_the_words_of_verdicts_are_no_names_of_rows() -> None:
    found = _measured()
    assert [row.name for row in found.rows] == ["car-free", "base"]
    assert {sample["row"] for sample in found.samples} == {"car-free", "base"}
    assert compare(
        {"A": ToyModel(OTHERS)},
        ToyModel(),
        [CAR],
        judges=[ToyJudge()],
        bank=ToyBank(),
        n=4,
        controls=["base"],
    ).row("base")


def test_files_of_older_versions_open() -> None:
    found = _measured()
    content = found.to_dict()
    content["rows"][-1]["name"] = "none"
    again = Evaluation.from_json(json.dumps(content))
    assert again == found
    assert again.row("none") is again.row("base")


def test_the_old_word_for_the_base_is_still_a_control() -> None:
    check_control("none")
    check_control("base")
    for taken in ("base", "none"):
        with pytest.raises(UserError, match="a control's name"):
            compare({taken: ToyModel(OTHERS)}, ToyModel(), [CAR], bank=ToyBank(), n=4)
