"""What a mask does, measured on a tiny model of the world and written into the mask."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import tiny_world
from oubliette.cli import main
from oubliette.core.errors import UserError
from oubliette.guard.learn.budget import Budget
from oubliette.guard.mask import Mask, read_mask
from oubliette.workflows.guard.measure import measure
from oubliette.workflows.guard.user import area

BUDGET = {"pictures": 3, "batch": 2, "steps": 4, "learning_rate": 0.02}


@pytest.fixture
def masked(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    tiny_folder: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """A folder with the mask `mask`, in a world of tiny models."""
    tiny_world.install(tmp_path_factory.mktemp("weights"), tiny_folder, monkeypatch)
    monkeypatch.chdir(tmp_path)
    from oubliette.api import load

    model = load("nano")
    names = [name for name in model.tensors() if name.startswith("unet.")][:-2]
    Mask.make(model, names, budget=Budget(0.99), learned={"learner": "by hand"}).write(Path("mask"))
    return tmp_path


def test_figures_of_both_users_go_into_a_new_mask(masked: Path) -> None:
    done = measure(
        "mask",
        "nano",
        "measured",
        illegal=["Bram Ostrow"],
        innocent=["bicycle"],
        budget=BUDGET,
        pictures=3,
        sampling_steps=2,
    )
    mask = read_mask("measured")
    assert mask.names == read_mask("mask").names
    assert mask.measured["n"] == 3
    assert mask.measured["at"] == [0, 1, 4]
    one = mask.measured["illegal"]["Bram Ostrow"]
    assert len(one["with"]) == len(one["without"]) == 3
    assert one["with"][0] == one["without"][0]
    free = area([0, 1, 4], one["without"])
    assert one["mitigation"] == (None if free == 0 else 1 - area([0, 1, 4], one["with"]) / free)
    assert "under the mask" in mask.measured["recoverable"]
    assert "Bram Ostrow" in "\n".join(done.lines())
    assert "under the mask" in Path("measured/README.md").read_text()
    assert read_mask("mask").measured == {}
    with pytest.raises(UserError, match="exists already"):
        measure("mask", "nano", "measured", illegal=["Bram Ostrow"], innocent=["bicycle"])


def test_the_command_prints_and_refuses(masked: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["guard", "measure", "--mask", "mask", "--model", "nano", "--illegal", "Bram Ostrow"]
    budget = [part for key, value in BUDGET.items() for part in ("--set", f"{key}={value}")]
    ready = [*arguments, "--innocent", "bicycle", *budget, "--pictures", "2", "--json"]
    assert main([*ready, "--out", "out"]) == 0
    assert json.loads(capsys.readouterr().out)["illegal"]["Bram Ostrow"]["with"]
    assert main([*arguments, "--innocent", "bycicle", "--out", "other"]) == 2
    assert "has no 'bycicle'" in capsys.readouterr().err
    assert not Path("other").exists()


def test_the_area_is_the_mean_over_log_steps() -> None:
    assert area([0, 1, 3], [0.0, 0.4, 0.8]) == pytest.approx(0.4)


def test_a_lora_user_whose_layers_are_all_frozen_is_shut_out(masked: Path) -> None:
    from oubliette.api import load
    from oubliette.data.concepts import make_concepts
    from oubliette.eval.judge import default_judges
    from oubliette.eval.pictures.sampling import Sampling
    from oubliette.train.tuning.lora import targets_of
    from oubliette.workflows.guard.apply import budget_for
    from oubliette.workflows.guard.user import User, asked_of

    model = load("nano")
    concept = make_concepts(model, ["bicycle"])[0]
    user = User(model, default_judges(model)[0], "lora", budget_for(model, "lora", BUDGET), how=Sampling(2))
    user.frozen = list(targets_of(model, "attention"))
    course = user.train(concept, None, asked_of(model, concept, 2, 0), [0, 2, 4])
    assert course.parameters == 0
    assert len(course.hits) == 3
    assert course.hits[0] == course.hits[2]
