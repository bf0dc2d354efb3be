"""What every registered method must satisfy; a new one is found through the registry."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

import tiny_language
from oubliette.backends import open_model
from oubliette.core.errors import UserError
from oubliette.core.validation import StrictModel
from oubliette.erase import METHODS
from oubliette.erase.result import EraseResult
from oubliette.erase.run import erase
from oubliette.recipe import build_recipe, preset_names, read_recipe
from short_methods import SCOPED, SHORT, saved_as, sources_of

CONCEPTS = [
    {"name": "car", "anchor": "object"},
    {"name": "van gogh", "anchor": "painting", "kind": "style"},
    {"name": "ada lovelace", "anchor": "woman", "kind": "person"},
]


@dataclass(frozen=True)
class Bench:
    """A tiny model of one kind, what a recipe on it needs, and how the ecosystem opens what it becomes."""

    folder: Path
    facts: dict[str, Any]
    scope: str
    frozen: str
    opened: Callable[[Path], dict[str, torch.Tensor]]
    seen: Callable[[Any], torch.Tensor]
    """What a model makes of the same few inputs."""


def drawn(model: Any) -> torch.Tensor:
    return torch.from_numpy(model.draw(["a red car", "a dog"], [1, 2], steps=3, guidance=3.0))


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        return model.rehearse(2)


def by_diffusers(folder: Path) -> dict[str, torch.Tensor]:
    from diffusers import StableDiffusionPipeline

    pipe = StableDiffusionPipeline.from_pretrained(folder)
    parts = {"unet": pipe.unet, "text_encoder": pipe.text_encoder}
    return {
        f"{part}.{name}": tensor for part, net in parts.items() for name, tensor in net.named_parameters()
    }


def by_transformers(folder: Path) -> dict[str, torch.Tensor]:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    assert AutoTokenizer.from_pretrained(folder)
    return dict(AutoModelForCausalLM.from_pretrained(folder).named_parameters())


@pytest.fixture(scope="module")
def benches(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Bench]:
    root = tmp_path_factory.mktemp("language")
    tiny_language.save(root / "model", "llama")
    for name, rows in (("forget", tiny_language.FORGET), ("retain", tiny_language.RETAIN)):
        tiny_language.write_rows(root / f"{name}.jsonl", rows)
    return {
        "diffusion": Bench(
            tiny_folder,
            {"concepts": CONCEPTS, "data": {"prompts": 6, "pictures": 6, "picture_steps": 2}},
            "xattn-kv",
            "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k.weight",
            by_diffusers,
            drawn,
        ),
        "language": Bench(
            root / "model",
            {"forget": str(root / "forget.jsonl"), "retain": str(root / "retain.jsonl")},
            "all-linear",
            "model.layers.0.mlp.up_proj.weight",
            by_transformers,
            logits,
        ),
    }


def run(bench: Bench, name: str, *, seed: int = 0, **more: Any) -> EraseResult:
    facts = {
        "method": {"name": name, **SHORT.get(name, {})},
        "scope": SCOPED.get(name, bench.scope),
        "seed": seed,
        "train": {"steps": 3, "batch": 2, "learning_rate": 1e-3},
        "save": {"form": saved_as(name)},
        **bench.facts,
        **sources_of(name, bench.facts),
    }
    return erase(open_model(bench.folder, device="cpu"), build_recipe(facts | more), show_progress=False)


def moved(result: EraseResult) -> set[str]:
    originals = open_model(result.model.source, device="cpu").tensors()
    return {
        name for name, tensor in result.model.tensors().items() if not torch.equal(tensor, originals[name])
    }


every = pytest.mark.parametrize("name", METHODS.names())


@every
def test_it_says_what_it_is(name: str) -> None:
    method = METHODS.get(name)
    assert method.name == name
    assert method.backend in {"diffusion", "language"}
    assert method.solution in {"trained", "solved", "attached"}
    assert method.paper
    assert issubclass(method.Options, StrictModel)
    assert method.__doc__
    method.Options()


@every
def test_a_preset_brings_it(name: str) -> None:
    presets = [read_recipe(preset) for preset in preset_names()]
    named = [
        preset["method"] if isinstance(preset["method"], str) else preset["method"]["name"]
        for preset in presets
    ]
    assert name in named


@every
def test_its_result_opens_without_this_package(name: str, benches: dict[str, Bench], tmp_path: Path) -> None:
    if saved_as(name) == "attached":
        pytest.skip("its base opens without this package, and what goes with it does not")
    bench = benches[METHODS.get(name).backend]
    result = run(bench, name)
    result.save(tmp_path / "out")
    opened = bench.opened(tmp_path / "out")
    for key, tensor in result.model.tensors().items():
        assert torch.equal(tensor, opened[key]), key


@every
def test_it_moves_the_scope_less_the_frozen_and_nothing_else(name: str, benches: dict[str, Bench]) -> None:
    bench = benches[METHODS.get(name).backend]
    if saved_as(name) == "attached":
        assert moved(run(bench, name)) == set()
        with pytest.raises(UserError, match="moves no tensor"):
            run(bench, name, freeze=[bench.frozen])
        return
    whole = run(bench, name)
    frozen = whole.changed[0] if name in SCOPED else bench.frozen
    assert moved(whole) == set(whole.changed)
    assert frozen in whole.changed
    held = run(bench, name, freeze=[frozen])
    assert moved(held) == set(whole.changed) - {frozen}


@every
def test_the_same_seed_gives_the_same_bits(name: str, benches: dict[str, Bench]) -> None:
    bench = benches[METHODS.get(name).backend]
    one, two = run(bench, name, seed=3), run(bench, name, seed=3)
    assert one.model.fingerprint() == two.model.fingerprint()
    assert one.losses == two.losses


@every
def test_it_can_be_undone(name: str, benches: dict[str, Bench]) -> None:
    bench = benches[METHODS.get(name).backend]
    result = run(bench, name)
    assert result.model.fingerprint() != open_model(bench.folder, device="cpu").fingerprint()
    result.undo()
    assert moved(result) == set()
    assert result.model.fingerprint() == open_model(bench.folder, device="cpu").fingerprint()


@every
def test_what_is_attached_is_saved_opened_and_taken_off(
    name: str, benches: dict[str, Bench], tmp_path: Path
) -> None:
    if saved_as(name) != "attached":
        pytest.skip("it changes weights")
    bench = benches[METHODS.get(name).backend]
    result = run(bench, name)
    found = bench.seen(result.model)
    result.save(tmp_path / "out")
    opened: Any = open_model(tmp_path / "out", device="cpu")
    assert opened.fingerprint() == result.model.fingerprint()
    assert torch.equal(bench.seen(opened), found)
    plain = bench.seen(open_model(bench.folder, device="cpu"))
    assert not torch.equal(found, plain)
    with opened.detached():
        assert torch.equal(bench.seen(opened), plain)
    with result.weights.originals():
        assert torch.equal(bench.seen(result.model), plain)
    for form in ("full", "delta", "lora"):
        with pytest.raises(UserError, match="save it attached"):
            result.save(tmp_path / form, form=form)
    if not getattr(opened.attachment, "grows", False):
        with pytest.raises(UserError, match="attached already"):
            erase(opened, result.recipe, show_progress=False)
        return
    again = erase(opened, result.recipe, show_progress=False)
    assert not torch.equal(bench.seen(opened), found)
    with again.weights.originals():
        assert torch.equal(bench.seen(opened), found)
    again.undo()
    assert torch.equal(bench.seen(opened), found)


@every
def test_losses_and_weights_are_finite(name: str, benches: dict[str, Bench]) -> None:
    result = run(benches[METHODS.get(name).backend], name)
    assert all(math.isfinite(loss) for losses in result.losses.values() for loss in losses)
    assert all(bool(torch.isfinite(tensor).all()) for tensor in result.model.tensors().values())
    assert bool(result.losses) or METHODS.get(name).solution != "trained"


@every
def test_an_unknown_option_is_refused(name: str, benches: dict[str, Bench]) -> None:
    with pytest.raises(UserError, match="unknown key 'no_such_option'"):
        run(benches[METHODS.get(name).backend], name, method={"name": name, "no_such_option": 1})


@every
@pytest.mark.parametrize("part", [{"surgery": "project"}, {"smoother": {"name": "sam", "rho": 0.01}}])
def test_surgery_and_smoother_work_on_it_or_are_refused_with_a_word_why(
    name: str, part: dict[str, Any], benches: dict[str, Bench]
) -> None:
    bench = benches[METHODS.get(name).backend]
    if METHODS.get(name).solution == "trained":
        assert moved(run(bench, name, **part))
    else:
        with pytest.raises(UserError, match="has no gradients"):
            run(bench, name, **part)


@every
def test_refresh_works_on_what_retains_something_and_is_refused_elsewhere(
    name: str, benches: dict[str, Bench]
) -> None:
    bench, method = benches[METHODS.get(name).backend], METHODS.get(name)
    if method.solution != "trained":
        return
    options = method.Options(**SHORT.get(name, {}))
    # SPM's anchoring and AdvUnlearn's prompts are retain roles that their cost does not name.
    if method.backend == "language" or method.step_cost(options).retains or name in ("spm", "advunlearn"):
        assert moved(run(bench, name, smoother="refresh"))
    else:
        with pytest.raises(UserError, match="on is 'retain', and the run has no such role"):
            run(bench, name, smoother="refresh")


@every
def test_adapters_move_the_scopes_layers_by_their_rank_or_are_refused(
    name: str, benches: dict[str, Bench], tmp_path: Path
) -> None:
    bench = benches[METHODS.get(name).backend]
    scope = {"name": SCOPED.get(name, bench.scope), "rank": 2}
    if METHODS.get(name).solution != "trained":
        with pytest.raises(UserError, match=r"not trained: scope\.rank"):
            run(bench, name, scope=scope)
        return
    result = run(bench, name, scope=scope)
    before = open_model(bench.folder, device="cpu").tensors()
    assert list(result.model.tensors()) == list(before)
    assert moved(result) == set(result.changed)
    for key in result.changed:
        change = (result.model.tensors()[key] - before[key]).detach().flatten(1)
        assert int(torch.linalg.matrix_rank(change, rtol=1e-3)) <= 2
    result.save(tmp_path / "lora", form="lora")
    opened = open_model(tmp_path / "lora", device="cpu").tensors()
    for key, tensor in result.model.tensors().items():
        torch.testing.assert_close(opened[key], tensor, atol=1e-6, rtol=1e-6)
    print_of = result.model.fingerprint()
    with result.weights.originals():
        assert moved(result) == set()
    assert result.model.fingerprint() == print_of
    result.undo()
    assert moved(result) == set()


@every
def test_a_model_of_another_kind_is_refused(name: str, benches: dict[str, Bench]) -> None:
    own = METHODS.get(name).backend
    (other,) = set(benches) - {own}
    with pytest.raises(UserError, match=f"is for {own} models"):
        run(benches[other], name)
