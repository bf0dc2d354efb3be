"""A probe that changes weights is a row on models that draw as well: the same code, their own figures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tiny_world
from oubliette.audit.attack_runner import PictureAttackRunner
from oubliette.audit.leakage_meter import is_broken
from oubliette.audit.suite import BenignRow, ProbeRow
from oubliette.cli import main
from oubliette.core.errors import UserError
from oubliette.data.concept import Concept
from oubliette.eval.pictures.sampling import Sampling
from oubliette.eval.statistics import Estimate

COMMAND = ["attack", "probe", "--model", "nano-gold", "--base", "nano", "--concept", "car"]


@pytest.fixture
def here(
    tmp_path: Path,
    tiny_folder: Path,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> Path:
    """Random weights for the embedded models, a base that shows the concept."""
    tiny_world.install(tmp_path_factory.mktemp("weights"), tiny_folder, monkeypatch)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("oubliette.audit.leakage_meter.LeakageMeter.span", 0.5)
    monkeypatch.setenv("OUBLIETTE_CACHE", str(tmp_path_factory.mktemp("cache")))
    return tmp_path


def test_a_quantized_model_draws_the_meters_prompts(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from oubliette.backends import open_model
    from oubliette.backends.diffusion import DiffusionBackend

    drawn: list[tuple[str, np.ndarray, list[str]]] = []
    whole = DiffusionBackend.draw

    def noted(self: Any, prompts: Any, seeds: Any, **how: Any) -> Any:
        made = whole(self, prompts, seeds, **how)
        drawn.append((self.fingerprint(), made, list(prompts)))
        return made

    monkeypatch.setattr(DiffusionBackend, "draw", noted)
    command = [*COMMAND, "--probe", "quantize", "--set", "bits=2", "--sampling-steps", "2"]
    assert main([*command, "--pictures", "2", "--kept", "1", "--out", "out"]) == 0
    row = json.loads((here / "out" / "attack.json").read_text())["row"]
    found = row["found"][0]
    assert (found["before"]["n"], found["after"]["n"]) == (2, 2)
    assert row["cost"] == {"forwards": 3 * 2 * 2, "backwards": 0, "pictures": 3}
    gold = open_model("nano-gold")
    own = [one for one in drawn if one[0] == gold.fingerprint()]
    odd = [one for one in drawn if one[0] not in (gold.fingerprint(), open_model("nano").fingerprint())]
    assert [one[2] for one in own] == [one[2] for one in odd]
    assert not np.array_equal(own[0][1], odd[0][1])
    lines = [json.loads(line) for line in (here / "out" / "samples.jsonl").open()]
    assert [line["prompt"] for line in lines] == odd[0][2]


def test_the_runner_says_what_it_is_and_that_no_picture_is_drawn_for_it() -> None:
    runner = PictureAttackRunner(Concept("car", "vehicle"), None, sampling=Sampling())
    spec = ProbeRow(probe="prune", options={"share": 0.25})
    found = runner.describe(spec)
    assert (found.title, found.looks) == ("Probe: prune, the smallest 25 %", 1)
    assert (found.cost.forwards, found.cost.pictures) == (0, 0)
    assert runner.facts(spec, 0) == []


def test_what_is_for_rows_is_none_of_theirs_and_unrelated_pictures_are_given() -> None:
    runner = PictureAttackRunner(Concept("car", "vehicle"), None, sampling=Sampling())
    odd = runner.describe(BenignRow(attack="O1"))
    assert odd.moot
    assert odd.skip.startswith("not applicable: O1 is for answers; for pictures there are F1, F2, F3, L1")
    with pytest.raises(UserError, match=r"pictures of unrelated things; give some \(--benign\)"):
        runner.facts(BenignRow(mode="full", data="unrelated"), 0)


@pytest.mark.parametrize(
    ("kept", "broken"),
    [
        (None, False),
        (Estimate(0.2, 0.1, None, 8), False),
        (Estimate(0.2, 0.1, 0.49, 8), True),
        (Estimate(0.2, 0.1, 0.5, 8), False),
    ],
)
def test_a_model_is_broken_where_even_the_upper_end_is_too_low(kept: Any, broken: bool) -> None:
    assert is_broken(kept, 0.5) is broken
