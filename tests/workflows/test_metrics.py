"""`oubliette eval --metric`: figures with their items, limits of gold, gibberish told, what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import tiny_facts
from oubliette.cli import main
from oubliette.eval.metric import METRICS
from oubliette.eval.result import Evaluation

Shown = pytest.CaptureFixture[str]
METRICS_ASKED = ("mcq", "truth_ratio", "forget_quality", "privleak", "mia_loss", "model_utility", "fluency")


@pytest.fixture(scope="module")
def rows(facts_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The facts' rows with four choices each, and a holdout of persons that no model was taught."""
    folder = tmp_path_factory.mktemp("rows")
    for name in ("forget", "retain"):
        known = (facts_folder / f"{name}.jsonl").read_text().splitlines()
        with open(folder / f"{name}.jsonl", "w") as file:
            for number, row in enumerate(map(json.loads, known)):
                pool = tiny_facts.TOWNS if row["answer"] in tiny_facts.TOWNS else tiny_facts.CRAFTS
                others = [each for each in pool if each != row["answer"]][:3]
                choices = [*others[: number % 4], row["answer"], *others[number % 4 :]]
                more = {"id": f"{name}-{number}", "choices": choices, "answer_index": number % 4}
                file.write(json.dumps({**row, **more}) + "\n")
    strangers = ("Mona Marlow", "Nils Quill", "Otto Marlow", "Pia Quill", "Rolf Marlow", "Sven Quill")
    with open(folder / "holdout.jsonl", "w") as file:
        for number, name in enumerate(strangers):
            file.write(
                json.dumps({"question": f"Where was {name} born?", "answer": tiny_facts.TOWNS[number]})
            )
            file.write("\n")
    return folder


def asked(facts: Path, rows: Path, *more: str) -> list[str]:
    return [
        *("eval", "--model", str(facts / "base"), "--base", str(facts / "base"), "--n", "16"),
        *("--forget", str(rows / "forget.jsonl"), "--retain", str(rows / "retain.jsonl")),
        *more,
    ]


@pytest.fixture(scope="module")
def measured(facts_folder: Path, rows: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("measured") / "figures"
    metrics = [part for name in METRICS_ASKED for part in ("--metric", name)]
    controls = ["--control", f"gold={facts_folder / 'gold'}", "--control", "random weights"]
    held = ["--rows", f"holdout={rows / 'holdout.jsonl'}", "--out", str(out)]
    assert main(asked(facts_folder, rows, *controls, *metrics, *held)) == 0
    return out


def figure(found: Evaluation, row: str, metric: str, where: str = "forget") -> Any:
    return next(one for one in found.metrics if (one.row, one.metric, one.set) == (row, metric, where))


def test_figures_stand_in_the_json_and_on_the_page(measured: Path) -> None:
    text = (measured / "evaluation.json").read_text()
    found = Evaluation.from_json(text)
    assert Evaluation.from_json(found.to_json()).metrics == found.metrics
    known = figure(found, "base (model)", "mcq")
    assert known.value > 0.9
    assert (known.n, known.interval, known.better, known.chance) == (16, "Wilson", "lower", 0.25)
    assert sorted(known.items) == sorted(f"forget-{number}" for number in range(16))
    assert sum(known.items.values()) / 16 == known.value
    assert figure(found, "gold", "mcq").value < 0.7
    assert figure(found, "gold", "mcq", "retain").value > 0.9
    page = (measured / "index.html").read_text()
    assert "forget_quality" in page
    assert "log10 p" in page


def test_gold_against_itself(measured: Path) -> None:
    found = Evaluation.from_json((measured / "evaluation.json").read_text())
    assert figure(found, "gold", "forget_quality").value == 1.0
    assert figure(found, "gold", "privleak").value == 0.0
    assert figure(found, "base", "forget_quality").value < 0.01
    assert figure(found, "base", "privleak").value < -60
    assert figure(found, "base", "mia_loss").value > 0.8
    leak = found.row("gold").concepts[0].leakage[0]
    assert leak.rate == leak.floor  # the floor is gold's
    assert leak.ground == "gold's 16 of it"
    assert leak.leakage is not None
    assert leak.leakage.value == 0


def test_gibberish_is_told_from_forgetting(measured: Path) -> None:
    found = Evaluation.from_json((measured / "evaluation.json").read_text())
    assert figure(found, "gold", "fluency", "forget").value == 1.0  # wrong, and fluent
    assert figure(found, "random weights", "fluency", "retain").value < 0.3
    verdict = found.row("random weights").concepts[0].verdict
    assert verdict.word == "destroyed"
    assert any(reason.startswith("fluency ") for reason in verdict.reasons)
    assert not any("fluency" in reason for reason in found.row("gold").concepts[0].verdict.reasons)


def test_they_are_printed_a_column_a_row(facts_folder: Path, rows: Path, capsys: Shown) -> None:
    assert main(asked(facts_folder, rows, "--n", "4", "--metric", "mcq", "--metric", "rouge_l")) == 0
    said = capsys.readouterr().out
    assert "metric" in said
    assert "mcq      forget (chance 0.250)  lower   " in said
    assert "rouge_l  retain                 higher  " in said


def test_nothing_is_added_where_nothing_is_asked(facts_folder: Path, rows: Path, capsys: Shown) -> None:
    assert main([*asked(facts_folder, rows, "--n", "2"), "--json"]) == 0
    assert "metrics" not in json.loads(capsys.readouterr().out)


def test_metrics_are_listed_without_torch(capsys: Shown) -> None:
    assert main(["ls", "metrics", "--json"]) == 0
    assert list(json.loads(capsys.readouterr().out)) == METRICS.names()


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--metric", "truth_rato"], "no metric is called 'truth_rato'; did you mean 'truth_ratio'"),
        (["--metric", "privleak"], "needs rows like those to forget that no model was trained on"),
        (["--metric", "forget_quality"], "is held against a model that never knew the rows"),
        (["--rows", "holdout"], "--rows 'holdout': expected NAME=FILE"),
        (["--rows", "a=x", "--rows", "a=y"], "--rows a: is given twice"),
        (["--rows", "holdout=/nowhere.jsonl"], "--rows holdout /nowhere.jsonl: no such file"),
        (["--metric", "mia_min_k:2"], "takes a share of the tokens"),
    ],
)
def test_what_cannot_be_is_refused(
    facts_folder: Path, rows: Path, more: list[str], said: str, capsys: Shown
) -> None:
    assert main(asked(facts_folder, rows, *more)) == 2
    assert said in capsys.readouterr().err


def test_a_set_has_one_name(facts_folder: Path, rows: Path, capsys: Shown) -> None:
    assert main(asked(facts_folder, rows, "--rows", f"retain={rows / 'retain.jsonl'}")) == 2
    assert "--rows retain: is given by --retain" in capsys.readouterr().err


def test_models_that_draw_have_none(tiny_folder: Path, capsys: Shown) -> None:
    drawing = ["eval", "--model", str(tiny_folder), "--base", str(tiny_folder), "--concept", "car"]
    assert main([*drawing, "--metric", "mcq"]) == 2
    assert "--metric mcq: is of models that answer" in capsys.readouterr().err
