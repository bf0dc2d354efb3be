"""From recipe to result: phases, undo, records, refusals."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import tiny_erasure
from oubliette.core.errors import UserError
from oubliette.erase.result import PHASES
from oubliette.erase.run import erase
from oubliette.recipe import build_recipe, load_recipe
from oubliette.train.loop import NonFiniteLoss

SMALL = {"prompts": 4, "pictures": 4, "picture_steps": 2}
SHORT = {"steps": 3, "batch": 2, "learning_rate": 1e-3}


def recipe(method: Any, **more: Any):
    facts = {
        "method": method,
        "scope": "xattn-kv",
        "concepts": [{"name": "car", "anchor": "object"}],
        "data": SMALL,
        "train": SHORT,
    }
    return build_recipe(facts | more)


def bits(model) -> dict[str, torch.Tensor]:
    return {name: tensor.detach().clone() for name, tensor in model.tensors().items()}


def moved(model, before: dict[str, torch.Tensor]) -> set[str]:
    return {name for name, tensor in model.tensors().items() if not torch.equal(tensor, before[name])}


@pytest.mark.parametrize("method", ["uce", {"name": "doco", "warm_up": 1}])
def test_undo_restores_every_bit(method) -> None:
    model = tiny_erasure.backend()
    before, print_of = bits(model), model.fingerprint()
    result = erase(model, recipe(method), show_progress=False)
    assert moved(model, before) == set(model.text_facing()) == set(result.changed)
    result.undo()
    assert moved(model, before) == set()
    assert model.fingerprint() == print_of


def test_result_tells_times_losses_and_recipe(tmp_path: Path) -> None:
    asked = recipe({"name": "doco", "warm_up": 1}, surgery="project")
    seen: list[int] = []
    result = erase(
        tiny_erasure.backend(),
        asked,
        callback=lambda step, loop: seen.append(step),
        callback_every=2,
        log=tmp_path / "log.jsonl",
        show_progress=False,
    )
    assert seen == [2]
    assert tuple(result.seconds) == PHASES
    assert result.seconds["prepare"] > 0
    assert result.seconds["optimise"] > 0
    assert {role: len(losses) for role, losses in result.losses.items()} == {
        "discriminator": 3,
        "forget": 2,
        "prior": 2,
    }
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [line["loss"] for line in lines] == [record["loss"] for record in result.log]
    assert result.recipe is asked


def test_save_records_the_run_and_opens_again(tiny_folder: Path, tmp_path: Path) -> None:
    from oubliette.backends import open_model

    model = open_model(tiny_folder, device="cpu")
    asked = recipe("uce", seed=5)
    result = erase(model, asked)
    for form in ("full", "delta"):
        result.save(tmp_path / form, form=form)
        again = open_model(tmp_path / form, device="cpu")
        assert all(torch.equal(tensor, model.tensors()[name]) for name, tensor in again.tensors().items())
        record = json.loads((tmp_path / form / "oubliette.json").read_text())
        assert record["method"] == "uce"
        assert record["concepts"] == ["car"]
        assert record["seed"] == 5
        assert build_recipe(record["recipe"]) == asked
    assert result.seconds["save"] > 0


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        (
            {"method": "npo"},
            "for language models, .* is a diffusion model; known for it: ablation, adavd, advunlearn, doco",
        ),
        ({"method": "uce", "surgery": "project"}, "solved, not trained"),
        ({"method": "uce", "smoother": {"name": "sam", "rho": 0.1}}, "solved, not trained"),
        ({"method": "uce", "scope": "non-xattn"}, "projections that read the text"),
        ({"method": {"name": "doco", "warmup": 3}}, "did you mean 'warm_up'"),
        ({"method": {"name": "ablation", "t_min": 900, "t_max": 200}}, "t_max must exceed t_min"),
        ({"method": {"name": "ablation", "t_max": 2000}}, "has 1000 timesteps"),
        ({"method": "uce", "concepts": []}, "no concept to erase"),
        (
            {"method": {"name": "doco", "warm_up": 3}},
            "still warming up in the last of them .*the model would not change",
        ),
        ({"method": "uce", "freeze": ["unet.conv_in.weigth"]}, "did you mean 'unet.conv_in.weight'"),
    ],
)
def test_what_cannot_be_run_is_refused_and_nothing_moves(facts: dict[str, Any], message: str) -> None:
    model = tiny_erasure.backend()
    before = bits(model)
    with pytest.raises(UserError, match=message):
        erase(model, recipe(facts.pop("method"), **facts), show_progress=False)
    assert moved(model, before) == set()


def test_an_interrupted_run_leaves_the_model_as_it_was() -> None:
    model = tiny_erasure.backend()
    before = bits(model)

    def interrupt(step: int, loop: Any) -> None:
        assert moved(model, before)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        erase(model, recipe("ablation"), callback=interrupt, callback_every=2, show_progress=False)
    assert moved(model, before) == set()


def test_a_run_that_diverges_stops_and_leaves_the_model_as_it_was() -> None:
    model = tiny_erasure.backend()
    before = bits(model)
    wild = recipe("ablation", train=SHORT | {"steps": 50, "learning_rate": 1e30})
    with pytest.raises(NonFiniteLoss):
        erase(model, wild, show_progress=False)
    assert moved(model, before) == set()


def test_a_resumed_run_ends_in_the_same_bits(tmp_path: Path) -> None:
    asked = recipe({"name": "doco", "warm_up": 1}, train=SHORT | {"steps": 4, "checkpoint_every": 2})
    whole, halted = tiny_erasure.backend(), tiny_erasure.backend()
    erase(whole, asked, show_progress=False)

    def halt(step: int, loop: Any) -> None:
        if step == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        erase(halted, asked, callback=halt, callback_every=1, checkpoint=tmp_path / "c", show_progress=False)
    erase(halted, asked, checkpoint=tmp_path / "c", resume=True, show_progress=False)
    assert moved(halted, bits(whole)) == set()


@pytest.mark.parametrize("method", ["uce", "doco"])
def test_a_run_without_a_checkpoint_yet_is_resumed_from_the_start(method: str, tmp_path: Path) -> None:
    whole, resumed = tiny_erasure.backend(), tiny_erasure.backend()
    options = {"name": "doco", "warm_up": 1} if method == "doco" else method
    erase(whole, recipe(options), show_progress=False)
    erase(resumed, recipe(options), checkpoint=tmp_path / "none", resume=True, show_progress=False)
    assert moved(resumed, bits(whole)) == set()


def test_concepts_in_another_order_are_solved_alike() -> None:
    concepts = [
        {"name": "car", "anchor": "object", "synonyms": ["truck"]},
        {"name": "van gogh", "anchor": "painting", "kind": "style"},
    ]
    ends = []
    for order in (concepts, concepts[::-1]):
        model = tiny_erasure.backend()
        erase(model, recipe({"name": "uce", "prompts": "expanded"}, concepts=order))
        ends.append(bits(model))
    for name in ends[0]:
        torch.testing.assert_close(ends[0][name], ends[1][name], rtol=1e-5, atol=1e-6)


def test_uce_maps_the_concepts_token_to_its_anchors() -> None:
    model = tiny_erasure.backend()
    name = model.text_facing()[0]
    before = model.tensors()[name].detach().clone()
    erase(model, recipe({"name": "uce", "regularisation": 1e-6}, data=SMALL | {"retain": ["a dog"]}))
    after = model.tensors()[name].detach()
    texts = [model.encode_text([prompt]) for prompt in ("car", "object", "a dog")]
    car, thing, dog = (text.hidden[0, int(text.last_token)] for text in texts)
    torch.testing.assert_close(after @ car, before @ thing, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(after @ dog, before @ dog, rtol=1e-3, atol=1e-3)


PRESETS = ["uce", "ablation", "esd-x", "esd-u", "doco", "doco-released"]


@pytest.mark.parametrize("name", PRESETS + [f"{name}-nano" for name in PRESETS[:-1]])
def test_presets_are_whole_and_run(name: str) -> None:
    preset = load_recipe(name)
    assert preset.name == name
    overrides = [
        "train.steps=2",
        "train.batch=2",
        "data.prompts=4",
        "data.pictures=4",
        "data.picture_steps=2",
    ]
    overrides += ["method.warm_up=1"] * name.startswith("doco") + [
        "method.trajectory_steps=2"
    ] * name.startswith("esd")
    asked = load_recipe(name, overrides).model_copy(update={"concepts": recipe("uce").concepts})
    model = tiny_erasure.backend()
    before = bits(model)
    result = erase(model, asked, show_progress=False)
    assert moved(model, before) == set(result.changed)
