"""The unlearning benchmark run whole on tiny random models: cells, states, resumption, the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from transformers import AutoTokenizer

from oubliette.bench.runner import bench
from oubliette.bench.unlearning.bench import UNLEARNING
from oubliette.bench.unlearning.plan import Plan, read_plan, recipe_of
from oubliette.bench.unlearning.run import DATA
from oubliette.cli import main
from oubliette.core.errors import UserError
from oubliette.data.questions import read_questions
from oubliette.workflows.world.training.language import blank
from oubliette.world import embedded

PLAN: dict[str, Any] = {
    "name": "tiny",
    "base": "base",
    "gold": "gold",
    "subjects": [
        {"name": "base", "control": "base"},
        {"name": "gold", "control": "gold"},
        {"name": "random weights", "control": "random weights", "attacked": False},
        {"name": "NPO", "method": "npo", "set": ["train.steps=2", "train.batch=2", "train.accumulation=1"]},
    ],
    "n": 3,
    "relearn": {"budget": {"steps": 2, "batch": 2, "pictures": 4, "learning_rate": 0.001}, "at": [1, 2]},
    "unrelated": {"budget": {"steps": 1, "batch": 2, "pictures": 4, "learning_rate": 0.001}, "at": [1]},
    "skills": ["minus"],
    "bits": [4],
    "prefixes": ["Sure:"],
    "findings": [{"says": "base knows more", "measure": "relearned open", "pairs": [["NPO", "base"]]}],
}


@pytest.fixture
def plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Plan:
    monkeypatch.chdir(tmp_path)
    for seed, name in enumerate(("base", "gold")):
        blank(width=24, blocks=2, seed=seed).save_pretrained(name)
        AutoTokenizer.from_pretrained(str(embedded.WEIGHTS / "nano-lm")).save_pretrained(name)
    monkeypatch.setattr("oubliette.workflows.world.text.make_world", small_world)
    Path("plan.yaml").write_text(yaml.safe_dump(PLAN))
    return read_plan("plan.yaml")


def small_world(size: int = 30, seed: int = 0) -> Any:
    from oubliette.world.text.entities import make_world

    return make_world(30, seed)


def test_cells_are_asked_attacked_and_kept(plan: Plan, capsys: pytest.CaptureFixture[str]) -> None:
    made = bench(UNLEARNING, "out", plan)
    assert [one.subject for one in made.outcomes] == ["base", "gold", "random weights", "NPO"]
    npo = made.outcomes[3]
    assert set(npo.states) == {
        "erased", "pressed: Sure:", "4 bits", "relearned at 1", "relearned at 2", "minus at 1"
    }  # fmt: skip
    assert set(npo.states["erased"]) == {"forget", "withheld", "retain", "skills"}
    assert set(npo.states["relearned at 1"]) == {"forget", "withheld"}
    assert set(made.outcomes[2].states) == {"erased", "pressed: Sure:", "4 bits"}
    assert npo.seconds is not None
    assert made.found[0].word == "undecided"
    assert (Path("out/models") / "npo-default-0").is_dir()
    kept = json.loads(Path("out/unlearning.json").read_text())
    assert [cell["subject"] for cell in kept["cells"]] == [one.subject for one in made.outcomes]

    told: list[int] = []
    again = bench(UNLEARNING, "out", plan, progress=lambda count, of, note: told.append(count))
    assert told == []
    assert again.outcomes == made.outcomes
    assert main(["bench", "unlearning", "--out", "out", "--plan", "plan.yaml", "--table-only"]) == 0
    assert "| NPO | 1 |" in capsys.readouterr().out


def test_who_relearns_is_shown_none_of_what_is_asked(plan: Plan) -> None:
    from oubliette.bench.cells import Cell, Subject, Target
    from oubliette.bench.unlearning import run

    run.write_data(Path("out") / DATA, plan.forget)
    cell = Cell(subject=Subject(name="base", control="base"), target=Target(name="default"), seed=0)
    sets = run._asked(plan, cell, Path("out") / DATA)
    asked = {row.id for row in sets["forget"]}
    shown = run._shown(Path("out") / DATA, asked)
    everything = {row.id for row in read_questions(Path("out") / DATA / "forget.jsonl")}
    assert {row.id for row in shown} | asked == everything
    assert not {row.id for row in shown} & asked
    assert {row.id for row in sets["withheld"]} == asked
    trained = {row.question for row in read_questions(Path("out") / DATA / "forget.jsonl")}
    assert not {row.question for row in sets["withheld"]} & trained


def test_what_is_wrong_is_said_in_one_line(plan: Plan) -> None:
    for changes, words in (
        ({"subjects": [{"name": "x", "method": "npoo"}]}, "did you mean 'npo'"),
        ({"relearn": {"budget": {"steps": 2}, "at": [4]}}, "looks at step 4"),
        ({"skills": ["sums"]}, "skills"),
    ):
        content = {**PLAN, "findings": [], **changes}
        Path("other.yaml").write_text(yaml.safe_dump(content))
        with pytest.raises(UserError) as caught:
            read_plan("other.yaml")
        assert words in str(caught.value)
        assert "\n" not in str(caught.value)


def test_data_in_a_setting_is_the_benchmarks_folder(plan: Plan) -> None:
    from oubliette.backends import open_model
    from oubliette.bench.cells import Cell, Subject, Target

    subject = Subject(name="x", method="npo-irm", set=["sources.auxiliary=DATA/minus.jsonl"])
    cell = Cell(subject=subject, target=Target(name="default"), seed=3)
    recipe = recipe_of(cell, open_model("base"), Path("somewhere"))
    assert str(recipe.sources["auxiliary"]) == "somewhere/minus.jsonl"
    assert (str(recipe.forget), recipe.seed) == ("somewhere/forget.jsonl", 3)
