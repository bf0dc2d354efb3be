"""The guard's benchmark: its plan, a whole run on tiny models, and its tables against figures by hand."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

import tiny_world
from oubliette.bench.guard.bench import GUARD
from oubliette.bench.guard.plan import BYPASS, GOLD, LESS, NONE, Plan, read_plan
from oubliette.bench.guard.run import Used
from oubliette.bench.guard.table import use_table
from oubliette.bench.runner import bench
from oubliette.bench.shipped import plan_text
from oubliette.cli import main
from oubliette.core.errors import UserError

PLAN: dict[str, Any] = {
    "name": "tiny",
    "gold": "nano-gold",
    "budgets": [0.3, 0.5],
    "arms": [
        {"name": "novel", "illegal": "Bram Ostrow"},
        {"name": "erased", "illegal": "car", "erase": "uce"},
    ],
    "learned_innocent": ["umbrella"],
    "innocent": ["bicycle"],
    "learners": [{"name": "largest"}, {"name": "random"}],
    "bypasses": ["textual-inversion", "delta-transplant"],
    "at": [0, 2],
    "budget": {"pictures": 3, "batch": 2, "steps": 2},
    "pictures": 2,
    "sampling_steps": 2,
}


def test_the_shipped_plan_has_three_learners_and_every_baseline() -> None:
    from oubliette.guard.learners import BASELINES, LEARNERS

    plan = read_plan()
    assert {spec.name for spec in plan.learners} == set(LEARNERS.names())
    assert set(BASELINES.names()) < set(LEARNERS.names())
    assert plan.budgets == [0.3, 0.5]
    assert not set(plan.innocent) & set(plan.learned_innocent)
    assert Plan.model_validate(yaml.safe_load(plan_text("guard"))) == plan
    cells = plan.cells()
    assert len({cell.key for cell in cells}) == len(cells)
    assert {NONE, LESS, GOLD, BYPASS} < {cell.guard for cell in cells}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"learners": [{"name": "saliencey"}]},
            "no guard learner is called 'saliencey'; did you mean 'saliency'",
        ),
        ({"learners": [{"name": "saliency", "options": {"batchs": 1}}]}, "did you mean 'batches'"),
        ({"budgets": [1.0]}, "every share must lie above 0 and below 1"),
        ({"at": [2, 4]}, "expected steps that begin with 0 and grow"),
        ({"budgtes": [0.3]}, "did you mean 'budgets'"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    path = tmp_path / "plan.yaml"
    path.write_text(yaml.safe_dump({**PLAN, **changes}))
    with pytest.raises(UserError) as caught:
        read_plan(path)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_whole_run_on_tiny_models(
    tmp_path: Path,
    tiny_folder: Path,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    tiny_world.install(tmp_path_factory.mktemp("weights"), tiny_folder, monkeypatch)
    monkeypatch.chdir(tmp_path)
    Path("plan.yaml").write_text(yaml.safe_dump(PLAN))
    plan = read_plan("plan.yaml")
    found = bench(GUARD, "out", plan)
    assert found.missing == []
    # On 2 arms: no mask; 2 masks and training less, at 2 budgets each; two bypasses. Gold on the erased one.
    assert len(found.used) == 2 * (1 + 2 * 3) + 1 + 2 * 2
    masked = next(one for one in found.used if (one.guard, one.share, one.arm) == ("random", 0.5, "novel"))
    free = next(one for one in found.used if (one.guard, one.arm) == (NONE, "novel"))
    assert 0.3 < masked.frozen_share <= 0.5
    assert masked.parameters < free.parameters
    assert masked.drift < free.drift
    assert len(masked.hits["Bram Ostrow"]) == 2
    less = next(one for one in found.used if (one.guard, one.share, one.arm) == (LESS, 0.5, "novel"))
    assert less.learning_rate < free.learning_rate
    largest = next(one for one in found.used if (one.guard, one.share, one.arm) == ("largest", 0.5, "novel"))
    assert less.drift == pytest.approx(largest.drift, rel=0.1)
    assert set(found.agreement) == set()  # a single run has no other to agree with
    assert (Path("out") / "guard.md").read_text().count("| novel | full | random |") == 2
    assert len(json.loads(Path("out/guard.json").read_text())["used"]) == len(found.used)

    told: list[int] = []
    again = bench(GUARD, "out", plan, progress=lambda done, total, note: told.append(done))
    assert told == []  # nothing is run twice
    assert again.used == found.used
    assert main(["bench", "guard", "--out", "out", "--plan", "plan.yaml", "--table-only"]) == 0
    assert "| erased | full | gold |" in capsys.readouterr().out
    assert main(["bench", "guard", "--out", "out", "--plan", "plan.yaml", "--dry-run"]) == 0
    assert "erased-random-30-full-0" in capsys.readouterr().out
    Path("plan.yaml").write_text(yaml.safe_dump({**PLAN, "pictures": 4}))
    assert main(["bench", "guard", "--out", "out", "--plan", "plan.yaml"]) == 2
    assert "was begun with another 'pictures'" in capsys.readouterr().err


def test_mitigation_and_cost_are_against_the_same_run_without_a_mask() -> None:
    def used(guard: str, seed: int, illegal: list[float], innocent: float) -> Used:
        return Used(
            arm="a",
            guard=guard,
            share=None if guard == NONE else 0.3,
            mode="full",
            seed=seed,
            steps=[0, 1, 3],  # log(1 + step): 0, log 2, 2 log 2
            illegal=illegal,
            innocent={"bicycle": innocent},
            before={"bicycle": 0.0},
            hits={},
            parameters=2**20,
            frozen_share=0.0 if guard == NONE else 0.3,
            drift=1.0,
            learning_rate=1e-4,
            state_mib=12.0,
            step_seconds=0.5,
        )

    free = used(NONE, 0, [0.0, 0.4, 0.8], 0.8)  # area 0.4
    masked = used("random", 0, [0.0, 0.2, 0.4], 0.72)  # area 0.2
    assert free.area == pytest.approx(0.4)
    assert math.isclose(masked.area, 0.2)
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in use_table([free, masked]).splitlines()
    ]
    head = rows[0]
    line = dict(zip(head, rows[3], strict=True))
    assert line["guard"] == "random"
    assert line["mitigation"] == "50"
    assert line["innocent cost"] == "10"
    assert line["illegal at the end"] == "40"
    assert line["state, MiB"] == "12"
    assert line["step, ms"] == "500"
    assert dict(zip(head, rows[2], strict=True))["mitigation"] == "–"


def test_a_transplant_lands_in_free_tensors_alone_and_leaves_no_trace(
    tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny_world.install(tmp_path_factory.mktemp("weights"), tiny_folder, monkeypatch)
    from oubliette.api import load
    from oubliette.bench.guard.transplant import Donor

    plan = Plan.model_validate(PLAN)
    model, donor = load("nano"), Donor(plan, plan.arm("erased"))
    before = {name: tensor.detach().clone() for name, tensor in model.tensors().items()}
    frozen = list(before)[:3]
    with torch.no_grad():
        for tensor in donor.model.tensors().values():
            tensor.add_(0.5)
    with donor.given_to(model, frozen):
        for name, tensor in model.tensors().items():
            moved = 0.0 if name in frozen else 0.5
            assert torch.allclose(tensor, before[name] + moved, atol=1e-6), name
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.tensors().items())
