"""An estimate counts what a run will make, and times passes of the opened model, which is as before."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch

import tiny_language
from oubliette.backends import open_model
from oubliette.backends.base import Backend
from oubliette.recipe import build_recipe
from oubliette.train.cost import StepCost
from oubliette.train.scope import select
from oubliette.train.timing import time_passes
from oubliette.workflows.estimate import _held_for, estimate


def recipe(**more: Any) -> Any:
    facts = {
        "method": {"name": "ablation", "prior": "retain"},
        "scope": "xattn-kv",
        "concepts": [{"name": "car", "anchor": "object"}],
        "train": {"steps": 10, "batch": 2},
        "data": {"pictures": 4, "picture_steps": 3},
    }
    return build_recipe(facts | more)


@pytest.fixture
def model(tiny_folder: Path) -> Backend:
    return open_model(tiny_folder, device="cpu")


def test_seconds_are_the_counted_passes_times_the_measured_ones(model: Backend) -> None:
    found = estimate(model, recipe())
    # 10 steps of 2 items: forget, its target and the prior; 8 pictures of 3 guided steps.
    assert found["forwards"] == 10 * 2 * 3 + 8 * 3 * 2
    assert found["backwards"] == 10 * 2 * 2
    drawn, stepped = 8 * 3 * 2, 10 * 2 * 3
    whole = stepped * found["seconds_a_forward"] + found["backwards"] * found["seconds_a_backward"]
    whole += drawn * found["seconds_a_drawn_forward"]
    assert found["seconds"] == pytest.approx(whole, abs=0.06)
    assert re.match(r"\d forwards and backwards of \d items", found["measured"])


def test_drawing_goes_at_the_pace_of_its_own_batch(model: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    """It was reckoned at that of a step's few items, of which each takes longer: a third too much."""
    from types import SimpleNamespace

    clock, sizes, rehearse = [0.0], [], model.rehearse

    def timed(count: int) -> Any:
        clock[0] += 0.001 + 0.0001 * count
        sizes.append(count)
        return rehearse(count)

    monkeypatch.setattr(model, "rehearse", timed)
    monkeypatch.setattr("oubliette.train.timing.time", SimpleNamespace(perf_counter=lambda: clock[0]))
    found = estimate(model, recipe())
    assert found["seconds_a_forward"] == pytest.approx(0.0006)  # 2 items a step
    assert found["seconds_a_drawn_forward"] == pytest.approx(0.002 * 1.3 / 16, rel=0.01)  # 8 pictures, guided
    assert max(sizes) == 16


def test_a_smoothers_passes_and_an_adversarys_count(model: Backend) -> None:
    plain, sam = estimate(model, recipe()), estimate(model, recipe(smoother="sam"))
    assert sam["forwards"] - plain["forwards"] == sam["backwards"] - plain["backwards"] == 10 * 2


def test_the_passes_of_choosing_elements_count(model: Backend) -> None:
    plain = estimate(model, recipe())
    chosen = estimate(model, recipe(scope={"name": "xattn-kv", "elements": "saliency"}))
    # 4 pictures, each with its prompt and with none
    assert chosen["forwards"] - plain["forwards"] == chosen["backwards"] - plain["backwards"] == 4 * 2
    some = {"name": "saliency", "batches": 1, "batch": 3}
    fewer = estimate(model, recipe(scope={"name": "xattn-kv", "elements": some}))
    assert fewer["forwards"] - plain["forwards"] == 3 * 2
    drawn = estimate(model, recipe(scope={"name": "xattn-kv", "elements": "random"}))
    assert drawn["forwards"] == plain["forwards"]


def test_a_closed_form_is_not_timed(model: Backend) -> None:
    found = estimate(model, recipe(method="uce"))
    assert found["seconds"] is None
    assert found["memory"] is None
    assert "no pass" in found["measured"]


def test_memory_grows_with_what_is_trained(model: Backend) -> None:
    few, many = estimate(model, recipe()), estimate(model, recipe(scope="full"))
    assert few["memory_weights"] == many["memory_weights"]
    bytes_of = sum(parameter.numel() for parameter in model.tensors().values())
    assert many["parameters"] < bytes_of
    assert many["memory"] >= few["memory"]


def test_adapters_count_for_what_they_hold(model: Backend) -> None:
    scope = {"name": "xattn-kv", "rank": 2}
    found, whole = estimate(model, recipe(scope=scope)), estimate(model, recipe())
    shapes = [tensor.shape for tensor in select(model, "xattn-kv").values()]
    assert found["tensors"] == whole["tensors"] == len(shapes)
    assert found["parameters"] == sum(2 * (rows + columns) for rows, columns in shapes)
    weight = next(iter(select(model, "xattn-kv").values()))
    numbers = 2 * sum(weight.shape)  # fp32, a gradient a role, two moments: nothing of W
    assert _held_for(weight, recipe(scope=scope), StepCost(retains=True)) == 4 * numbers * (1 + 2 + 2)


def test_a_pace_leaves_flags_and_weights_as_they_were(model: Backend) -> None:
    before = {name: tensor.detach().clone() for name, tensor in model.tensors().items()}
    pace = time_passes(model, list(select(model, "text-encoder").values()), 2, budget=1e6)
    assert pace.forward > 0
    assert pace.graph > 0
    assert (pace.items, pace.repeats) == (2, 3)
    for name, tensor in model.tensors().items():
        assert torch.equal(tensor, before[name])
        assert not tensor.requires_grad


def test_what_would_take_too_long_is_timed_on_one_item(model: Backend) -> None:
    pace = time_passes(model, list(select(model, "xattn-kv").values()), 8, budget=0.0)
    assert (pace.items, pace.repeats) == (1, 1)


def test_the_graph_is_what_autograd_keeps(model: Backend) -> None:
    trained = list(select(model, "xattn-kv").values())
    one, two = time_passes(model, trained, 1), time_passes(model, trained, 4)
    assert one.graph == pytest.approx(two.graph, rel=0.2)


def test_a_language_model_is_timed_too(tmp_path: Path) -> None:
    model = open_model(tiny_language.save(tmp_path / "base", "llama"), device="cpu")
    tiny_language.write_rows(tmp_path / "forget.jsonl", tiny_language.FORGET)
    facts = {"method": "npo", "scope": "all-linear", "forget": str(tmp_path / "forget.jsonl")}
    found = estimate(model, build_recipe({**facts, "train": {"steps": 2, "batch": 2}}))
    assert found["seconds"] > 0 or found["seconds_a_forward"] > 0
    assert model.rehearse(2).shape[:2] == (2, 64)


def test_retained_rows_further_draws_and_an_attackers_run_count(tmp_path: Path) -> None:
    """Items of a step times what one takes, forwards and backwards, counted by hand."""
    model = open_model(tiny_language.save(tmp_path / "base", "llama"), device="cpu")
    files = {name: str(tmp_path / f"{name}.jsonl") for name in ("forget", "retain")}
    for path in files.values():
        tiny_language.write_rows(Path(path), tiny_language.FORGET)

    def passes(method: dict[str, Any], smoother: Any = "none") -> tuple[float, float]:
        facts = {"method": method, "scope": "full", "train": {"steps": 3, "batch": 2}, **files}
        found = estimate(model, build_recipe({**facts, "smoother": smoother}))
        return found["forwards"] / 6, found["backwards"] / 6

    three = {"name": "npo", "retain_batch": 3}
    # forget, its target, three retained rows
    assert passes(three) == (1 + 1 + 3, 1 + 3)
    # forget here and ahead, the attacker's, two draws' targets, three retained rows here and ahead
    gap = {"name": "stableun", "probe": "gap"}
    assert passes(three, gap) == (2 + 1 + 2 + 2 * 3, 2 + 1 + 3)
    # six steps of half a row, two looks at the entropy; a target, a retained row
    tar = {"name": "tar", "inner_steps": 6, "inner_batch": 0.5, "every": 4}
    assert passes(tar) == (5 + 1 + 1, 5 + 1)
    assert passes(tar, "sam") == (2 * 5 + 1 + 1, 2 * 5 + 1)
    # an adversary in the draw has its turn on each: sixteen steps and a pass for its start
    lat = {"name": "rmu-lat", "layer": 1, "attack_layer": 0}
    assert passes(lat) == (1 + 1 + 17 + 1, 1 + 16 + 1)
    assert passes(lat, gap) == (2 + 1 + 2 * 18 + 2, 2 + 1 + 2 * 16 + 1)


def test_the_masters_of_16_bit_weights_are_counted(tmp_path: Path) -> None:
    folder = tiny_language.save(tmp_path / "lm", "llama", dtype=torch.bfloat16)
    files = {name: str(tmp_path / f"{name}.jsonl") for name in ("forget", "retain")}
    for path in files.values():
        tiny_language.write_rows(Path(path), tiny_language.FORGET)
    asked = build_recipe({"method": "npo", "scope": "full", "train": {"steps": 1, "batch": 2}, **files})
    wide, narrow = (
        [
            _held_for(p, asked, StepCost())
            for p in open_model(folder, device="cpu", dtype=dtype).tensors().values()
        ]
        for dtype in (torch.float32, torch.bfloat16)
    )
    # Half the bytes for the original, and four for a master.
    count = sum(p.numel() for p in open_model(folder, device="cpu").tensors().values())
    assert sum(narrow) == sum(wide) - 2 * count + 4 * count
