"""The refresh benchmark on a few coloured squares: cells, differences, claims, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image
from scipy import stats

from continual.toys import SMALL, toy
from oubliette.bench.refresh.bench import REFRESH
from oubliette.bench.refresh.figures import difference, weigh
from oubliette.bench.refresh.plan import Claim, Plan, read_plan
from oubliette.bench.runner import bench, benchmark_for
from oubliette.cli import main
from oubliette.continual.run import learn
from oubliette.core.errors import UserError
from oubliette.data.labelled import read_labelled

SUBJECTS = [
    {"name": "ER", "method": "er"},
    {"name": "ER + released", "method": "er", "refresh": {"form": "released", "delta": 1e-3}},
    {"name": "ER, J 0", "method": "er", "refresh": {"J": 0}, "runs": 1},
]
CLAIMS = [
    {"says": "it helps", "measure": "class-il accuracy", "pairs": [["ER + released", "ER"]]},
    {"says": "ends flatter", "measure": "fisher norm", "pairs": [["ER + released", "ER"], ["ER, J 0", "ER"]]},
]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root, data = tmp_path_factory.mktemp("pictures"), toy(train=10)
    for index, (picture, label) in enumerate(zip(data.pictures, data.labels, strict=True)):
        path = root / data.classes[label] / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(path)
    return root


def content(pictures: Path, **more: Any) -> dict[str, Any]:
    learned = {**SMALL, "epochs": 1}
    made = {"name": "toy", "data": str(pictures), "learn": learned, "runs": 2, "subjects": SUBJECTS}
    return {**made, "claims": CLAIMS, **more}


def test_cells_are_what_learning_alone_comes_to_and_are_kept(pictures: Path, tmp_path: Path) -> None:
    plan = Plan(**content(pictures))
    assert [cell.key for cell in plan.cells()] == [
        *("er-0", "er-released-0", "er-j-0-0", "er-1", "er-released-1"),
    ]
    told: list[str] = []
    found = bench(REFRESH, tmp_path / "out", plan, progress=lambda done, of, what: told.append(what))
    assert len(told) == 5
    alone, _ = learn(plan.settings(plan.cells()[1]), read_labelled(pictures, 8), tmp_path / "alone")
    assert found.outcomes["ER + released"][0].figures() == alone.figures()
    assert found.outcomes["ER, J 0"][0].weights == found.outcomes["ER"][0].weights
    assert not found.missing
    assert {path.suffix for path in (tmp_path / "out" / "cells").iterdir()} == {".json", ".sha256"}
    told.clear()
    again = bench(REFRESH, tmp_path / "out", plan, progress=lambda done, of, what: told.append(what))
    assert not told
    assert again.markdown() == found.markdown() == (tmp_path / "out" / "refresh.md").read_text()
    kept = json.loads((tmp_path / "out" / "refresh.json").read_text())
    assert len(kept["cells"]) == 5
    assert [one["says"] for one in kept["found"]] == [
        *("it helps", "ends flatter", "ER + released – ER", "ER, J 0 – ER"),
    ]
    with pytest.raises(UserError, match="begun with another learn"):
        bench(REFRESH, tmp_path / "out", Plan(**content(pictures, learn={**plan.learn, "epochs": 2})))
    changed = [{"name": "ER", "method": "der"}, *SUBJECTS[1:]]
    with pytest.raises(UserError, match="begun with another 'ER'"):
        bench(REFRESH, tmp_path / "out", Plan(**content(pictures, subjects=changed)))
    more = Plan(
        **content(pictures, runs=3, subjects=[*SUBJECTS, {"name": "SGD", "method": "sgd", "runs": 1}])
    )
    assert len(bench(REFRESH, tmp_path / "out", more, run=False).missing) == 3


def test_a_difference_is_the_paired_t_tests() -> None:
    values = [0.02, 0.05, 0.01, 0.03]
    found = difference("it helps", "class-il accuracy", values)
    test = stats.ttest_rel([0.5 + value for value in values], [0.5] * 4)
    interval = test.confidence_interval()
    assert found.p == pytest.approx(test.pvalue)
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high))
    assert (found.word, found.n) == ("yes", 4)
    assert difference("", "fisher norm", values).word == "no"  # less of it is better
    assert difference("", "fisher norm", [-value for value in values]).word == "yes"
    assert difference("", "class-il accuracy", [0.1, -0.1]).word == "undecided"
    assert difference("", "class-il accuracy", [0.1]).word == "undecided"
    assert difference("", "class-il accuracy", []).word == "not run"
    assert difference("", "class-il accuracy", [0.0, 0.0]).p == 1


def test_a_claim_of_several_pairs_weighs_each_seed_once() -> None:
    figures = {
        name: {seed: {"norm": value + seed * slope} for seed in range(3)}
        for name, value, slope in (("a", 1.0, 0.1), ("b", 2.0, 0.3), ("c", 0.5, 0.0), ("d", 0.0, 0.0))
    }
    claim = Claim(says="smaller", measure="norm", pairs=[("a", "b"), ("c", "d")])
    whole, first, second = weigh(claim, figures)
    assert (whole.n, whole.value) == (3, pytest.approx(((-1.0 - 0.2) + 0.5) / 2))
    assert (first.value, first.word) == (pytest.approx(-1.2), "yes")
    assert (second.value, second.word) == (pytest.approx(0.5), "no")


def test_the_plan_that_ships_is_the_issues_table() -> None:
    plan = read_plan("refresh")
    names = [subject.name for subject in plan.subjects]
    assert [
        f"{base}{more}"
        for base in ("SGD", "online EWC", "ER", "DER++")
        for more in ("", " + released", " + paper")
    ] == (names[:12])
    assert plan.runs == 5
    assert len(plan.cells()) == 60 + 1 + 5 * 3


def test_a_plan_says_of_which_benchmark_it_is(tmp_path: Path, pictures: Path) -> None:
    assert benchmark_for("continual", "refresh") is REFRESH
    assert benchmark_for("audit", "refresh").name == "audit"
    path = tmp_path / "plan.yaml"
    path.write_text(yaml.safe_dump(content(pictures)))
    with pytest.raises(UserError, match="'benchmark' is missing"):
        benchmark_for("continual", path)
    path.write_text(yaml.safe_dump({**content(pictures), "benchmark": "refesh"}))
    with pytest.raises(UserError, match="refresh"):
        benchmark_for("continual", path)


def test_the_command_runs_a_plan_of_ones_own(
    tmp_path: Path, pictures: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "plan.yaml"
    path.write_text(yaml.safe_dump(content(pictures, benchmark="refresh", runs=1)))
    order = ["bench", "continual", "--plan", str(path), "--out", str(tmp_path / "out")]
    assert main([*order, "--dry-run"]) == 0
    assert "er-j-0-0" in capsys.readouterr().out
    assert main([*order, "--subject", "ER"]) == 0
    assert "| it helps | class-il accuracy | – | – | 0 | not run |" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"subjects": [{"name": "a", "method": "derp"}]}, "der"),
        (
            {"subjects": [{"name": "a", "method": "er"}, {"name": "A+", "method": "der"}]},
            "names of two subjects",
        ),
        (
            {"subjects": [{"name": "a", "method": "er", "refresh": {"J": -1}}], "claims": []},
            "J must be at least 0",
        ),
        (
            {"subjects": [{"name": "a", "method": "er", "set": {"epoch": 1}}], "claims": []},
            "unknown key 'epoch'",
        ),
        ({"claims": [{"says": "x", "measure": "norm", "pairs": [["ER", "EE"]]}]}, "claim is of 'EE'"),
        (
            {"claims": [{"says": "x", "measure": "norms", "pairs": [["ER", "ER"]]}]},
            "no measure is called 'norms'",
        ),
    ],
)
def test_what_is_wrong_in_a_plan_is_said(
    change: dict[str, Any], said: str, tmp_path: Path, pictures: Path
) -> None:
    path = tmp_path / "plan.yaml"
    path.write_text(yaml.safe_dump(content(pictures, **change)))
    with pytest.raises(UserError, match=said):
        read_plan(path)
