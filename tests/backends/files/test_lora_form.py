"""A LoRA is the change itself where that has a low rank, and the SVD's own best where it has not."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

import tiny
import tiny_language
from oubliette.backends import open_model
from oubliette.backends.diffusion import DiffusionBackend
from oubliette.backends.files.lora_form import TruncationWarning
from oubliette.backends.files.truncation import truncated
from oubliette.backends.language import LanguageBackend
from oubliette.core.errors import UserError
from oubliette.core.manifest import read_manifest
from oubliette.erase.run import EraseResult, erase
from oubliette.recipe import SaveSpec, build_recipe

CONV = "unet.down_blocks.0.resnets.0.conv1.weight"


def opened(folder: Path) -> DiffusionBackend:
    model = open_model(folder, device="cpu")
    assert isinstance(model, DiffusionBackend)
    return model


def add(model: Any, name: str, rank: int, scale: float = 0.05, seed: int = 0) -> None:
    """A random change of the given rank, of a convolution's weight as (out, in k k)."""
    rng = torch.Generator().manual_seed(seed)
    weight = model.tensors()[name]
    rows, columns = weight.shape[0], weight[0].numel()
    change = torch.randn(rows, rank, generator=rng) @ torch.randn(rank, columns, generator=rng)
    with torch.no_grad():
        weight.add_(scale * change.view_as(weight))


def close(one: dict[str, torch.Tensor], two: dict[str, torch.Tensor], tolerance: float = 1e-5) -> None:
    assert one.keys() == two.keys()
    for name, tensor in one.items():
        assert torch.allclose(tensor, two[name], atol=tolerance, rtol=0), name


def merged(pipe: Any, folder: Path) -> dict[str, torch.Tensor]:
    """Every editable weight of a diffusers pipeline with the folder's LoRA fused in by diffusers itself."""
    pipe.load_lora_weights(str(folder), weight_name="pytorch_lora_weights.safetensors")
    pipe.fuse_lora()
    pipe.unload_lora_weights()
    return {k: v.detach() for k, v in DiffusionBackend.from_pipeline(pipe).tensors().items()}


def uce(folder: Path, **save: Any) -> EraseResult:
    facts = {
        "method": {"name": "uce", "prompts": "name"},
        "scope": "xattn-kv",
        "concepts": [{"name": "car", "anchor": "object"}, {"name": "dog", "anchor": "animal"}],
        "save": save,
    }
    return erase(open_model(folder, device="cpu"), build_recipe(facts), show_progress=False)


# -- the mathematics -----------------------------------------------------------------------------------------


def test_the_error_is_the_tail_of_the_singular_values() -> None:
    matrix = torch.randn(7, 11, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    values = torch.linalg.svdvals(matrix)
    for rank in range(8):
        product = truncated(matrix, rank=rank)
        tail = float(values[rank:].square().sum().sqrt() / values.square().sum().sqrt())
        assert product.rank == rank
        assert product.error == pytest.approx(tail, abs=1e-6)


def test_energy_keeps_the_least_rank_that_holds_it() -> None:
    matrix = torch.diag(torch.tensor([3.0, 2.0, 1.0, 0.0]))
    for energy, rank in ((9 / 14, 1), (0.7, 2), (13 / 14, 2), (0.95, 3), (1.0, 3)):
        assert truncated(matrix, energy=energy - 1e-12).rank == rank


def test_the_numerical_rank_passes_over_rounding_and_what_lies_under_the_floor() -> None:
    rng = torch.Generator().manual_seed(2)
    low = torch.randn(9, 3, generator=rng) @ torch.randn(3, 12, generator=rng)
    assert truncated(low).rank == 3
    assert truncated(low + 1e-3 * torch.randn(9, 12, generator=rng)).rank == 9
    assert truncated(low + 1e-3 * torch.randn(9, 12, generator=rng), floor=0.05).rank == 3
    assert truncated(torch.zeros(4, 5)).rank == 0


def test_padding_changes_nothing() -> None:
    product = truncated(torch.randn(5, 6, generator=torch.Generator().manual_seed(3)), rank=2)
    up, down = product.padded(4)
    assert up.shape == (5, 4)
    assert down.shape == (4, 6)
    assert torch.allclose(up @ down, product.up @ product.down)


# -- diffusion -----------------------------------------------------------------------------------------------


def test_a_closed_form_is_held_exactly_at_the_rank_of_its_pairs(tiny_folder: Path, tmp_path: Path) -> None:
    from diffusers import StableDiffusionPipeline

    result = uce(tiny_folder, form="lora")
    result.save(tmp_path / "lora")
    result.save(tmp_path / "full", form="full")
    facts = read_manifest(tmp_path / "lora")["lora"]
    assert facts["rank"] <= 2
    assert facts["error"] < 1e-5
    assert set(facts["tensors"]) == set(result.changed)
    full = {k: v.detach() for k, v in opened(tmp_path / "full").tensors().items()}
    close(merged(StableDiffusionPipeline.from_pretrained(tiny_folder), tmp_path / "lora"), full)
    close(dict(opened(tmp_path / "lora").tensors()), full)


def test_convolutions_and_the_text_encoder_are_held_too(tiny_folder: Path, tmp_path: Path) -> None:
    from diffusers import StableDiffusionPipeline

    model = opened(tiny_folder)
    text = next(
        name for name in model.tensors() if name.startswith("text_encoder.") and "q_proj.weight" in name
    )
    for name, rank in ((CONV, 3), (text, 1), (model.text_facing()[0], 2)):
        add(model, name, rank)
    model.save(tmp_path / "lora", form="lora")
    found = read_manifest(tmp_path / "lora")
    assert [found["lora"]["tensors"][name]["rank"] for name in (CONV, text)] == [3, 1]
    assert found["lora"]["rank"] == 3
    own = {k: v.detach() for k, v in model.tensors().items()}
    close(merged(StableDiffusionPipeline.from_pretrained(tiny_folder), tmp_path / "lora"), own)
    close(dict(opened(tmp_path / "lora").tensors()), own)


def test_two_text_encoders_are_no_obstacle(tmp_path: Path) -> None:
    from diffusers import StableDiffusionXLPipeline

    base = tiny.save(tiny.xl_pipeline(), tmp_path / "xl")
    model = opened(base)
    for name in (
        *model.text_facing(),
        next(n for n in model.tensors() if "encoder_2" in n and "q_proj.w" in n),
    ):
        add(model, name, 2)
    model.save(tmp_path / "lora", form="lora")
    own = {k: v.detach() for k, v in model.tensors().items()}
    pipe = StableDiffusionXLPipeline.from_pretrained(base, add_watermarker=False)
    close(merged(pipe, tmp_path / "lora"), own)
    close(dict(opened(tmp_path / "lora").tensors()), own)


def test_what_is_opened_is_what_the_record_says(tiny_folder: Path, tmp_path: Path) -> None:
    uce(tiny_folder, form="lora").save(tmp_path / "lora")
    model, record = opened(tmp_path / "lora"), read_manifest(tmp_path / "lora")
    assert model.fingerprint() == record["fingerprint"]
    assert model.source == str(tmp_path / "lora")
    assert record["base"]["fingerprint"] == opened(tiny_folder).fingerprint()
    assert record["form"] == "lora"
    model.save(tmp_path / "whole")
    close(dict(opened(tmp_path / "whole").tensors()), dict(model.tensors()), 0)


def test_a_lower_rank_says_what_it_leaves_out(tiny_folder: Path, tmp_path: Path) -> None:
    model, name = opened(tiny_folder), opened(tiny_folder).text_facing()[0]
    before = model.tensors()[name].detach().clone()
    add(model, name, 8)
    values = torch.linalg.svdvals((model.tensors()[name].detach() - before).double())
    with pytest.warns(TruncationWarning, match="leaves out"):
        model.save(tmp_path / "lora", form="lora", rank=4)
    facts = read_manifest(tmp_path / "lora")["lora"]
    tail = float((values[4:].square().sum() / values.square().sum()).sqrt())
    assert facts["rank"] == 4
    assert facts["error"] == facts["tensors"][name]["error"] == pytest.approx(tail, rel=1e-4)
    difference = opened(tmp_path / "lora").tensors()[name].detach() - model.tensors()[name].detach()
    assert float(difference.norm() / values.square().sum().sqrt()) == pytest.approx(tail, rel=1e-3)


def test_what_is_no_matrix_is_refused_before_and_after(tiny_folder: Path, tmp_path: Path) -> None:
    model = opened(tiny_folder)
    name = "unet.conv_in.bias"
    with torch.no_grad():
        model.tensors()[name].add_(1)
    with pytest.raises(UserError, match=r"'unet.conv_in.bias' is no weight .*delta or full"):
        model.save(tmp_path / "lora", form="lora")
    embedding = next(n for n in model.tensors() if "token_embedding" in n)
    fresh = opened(tiny_folder)
    with torch.no_grad():
        fresh.tensors()[embedding].add_(1)
    with pytest.raises(UserError, match="token_embedding"):
        fresh.save(tmp_path / "lora", form="lora")
    recipe = build_recipe(
        {
            "method": "ablation",
            "scope": "full",
            "concepts": [{"name": "car", "anchor": "object"}],
            "save": {"form": "lora"},
        }
    )
    with pytest.raises(UserError, match="is no weight"):
        erase(opened(tiny_folder), recipe, show_progress=False)
    assert not (tmp_path / "lora").exists()


def test_nothing_changed_and_nothing_on_disk_are_refused(tiny_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nothing changed"):
        opened(tiny_folder).save(tmp_path / "lora", form="lora")
    with pytest.raises(UserError, match="no base on disk"):
        DiffusionBackend.from_pipeline(tiny.pipeline()).save(tmp_path / "lora", form="lora")
    assert not (tmp_path / "lora").exists()


def test_another_base_and_a_broken_file_are_refused(tiny_folder: Path, tmp_path: Path) -> None:
    uce(tiny_folder, form="lora").save(tmp_path / "lora")
    other = tiny.save(tiny.pipeline(seed=5), tmp_path / "other")
    with pytest.raises(UserError, match="give the right base"):
        open_model(tmp_path / "lora", device="cpu", base=other)
    broken = tmp_path / "broken"
    shutil.copytree(tmp_path / "lora", broken)
    (broken / "pytorch_lora_weights.safetensors").write_bytes(b"no header")
    with pytest.raises(UserError, match="not a readable safetensors file"):
        open_model(broken, device="cpu", base=tiny_folder)


def test_the_recipe_knows_what_goes_together() -> None:
    assert SaveSpec(form="lora", rank=4).rank == 4
    for wrong in ({"form": "full", "rank": 4}, {"form": "lora", "rank": 4, "energy": 0.9}):
        with pytest.raises(ValueError, match="rank and energy"):
            SaveSpec.model_validate(wrong)


# -- language ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("llama", "model.layers.0.self_attn.q_proj.weight"),
        ("gpt2", "transformer.h.0.attn.c_attn.weight"),
    ],
)
def test_peft_opens_a_language_models(kind: str, name: str, tmp_path: Path) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    base = tiny_language.save(tmp_path / "base", kind)
    model = open_model(base, device="cpu")
    assert isinstance(model, LanguageBackend)
    add(model, name, 2)
    model.save(tmp_path / "lora", form="lora")
    assert read_manifest(tmp_path / "lora")["lora"]["tensors"][name]["rank"] == 2
    own = {k: v.detach() for k, v in model.tensors().items()}
    theirs = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), tmp_path / "lora")
    close(dict(theirs.merge_and_unload().named_parameters()), own)
    again = open_model(tmp_path / "lora", device="cpu")
    close(dict(again.tensors()), own)
    assert again.fingerprint() == read_manifest(tmp_path / "lora")["fingerprint"]


def test_a_tied_embedding_and_an_attachment_are_refused(tmp_path: Path) -> None:
    model = open_model(tiny_language.save(tmp_path / "base", "gpt2"), device="cpu")
    with pytest.raises(UserError, match="nothing is attached that could be saved"):
        model.save(tmp_path / "out", form="attached")
    with torch.no_grad():
        model.tensors()["transformer.wte.weight"].add_(1)
    with pytest.raises(UserError, match=r"wte.weight' is no weight"):
        model.save(tmp_path / "out", form="lora")
    assert not (tmp_path / "out").exists()


# -- what was trained as a LoRA ------------------------------------------------------------------------------


def low_rank_erasure(folder: Path, **more: Any) -> EraseResult:
    facts = {
        "method": "ablation",
        "scope": {"name": "xattn", "rank": 2, "alpha": 3.0},
        "concepts": [{"name": "car", "anchor": "object"}],
        "data": {"prompts": 4, "pictures": 4, "picture_steps": 2},
        "train": {"steps": 3, "batch": 2, "learning_rate": 1e-2},
        "save": {"form": "lora"},
    }
    return erase(open_model(folder, device="cpu"), build_recipe(facts | more), show_progress=False)


@pytest.fixture
def no_svd(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> Any:
        raise AssertionError("an SVD was taken")

    monkeypatch.setattr("oubliette.backends.files.lora_form.truncated", refuse)


@pytest.mark.usefixtures("no_svd")
def test_adapters_are_written_as_they_were_trained(tiny_folder: Path, tmp_path: Path) -> None:
    from diffusers import StableDiffusionPipeline
    from safetensors.torch import load_file

    result = low_rank_erasure(tiny_folder)
    factors = result.weights.factors
    assert factors is not None
    result.save(tmp_path / "lora")
    written = load_file(tmp_path / "lora" / "pytorch_lora_weights.safetensors")
    assert len(written) == len(factors.values) == 2 * len(result.changed)
    for name, value in factors.values.items():
        layer, _, half = name.rpartition(".weight.")
        assert torch.equal(written[f"{layer}.{half}.weight"], value)
    record = read_manifest(tmp_path / "lora")
    assert (record["lora"]["rank"], record["lora"]["alpha"], record["lora"]["error"]) == (2, 3.0, 0.0)
    assert set(record["lora"]["tensors"]) == set(result.changed)
    again = opened(tmp_path / "lora")
    assert again.fingerprint() == record["fingerprint"]
    own = {name: tensor.detach() for name, tensor in result.model.tensors().items()}
    close(dict(again.tensors()), own, 1e-6)
    close(merged(StableDiffusionPipeline.from_pretrained(tiny_folder), tmp_path / "lora"), own)


@pytest.mark.usefixtures("no_svd")
@pytest.mark.parametrize(("kind", "rate"), [("llama", 1e-4), ("gpt2", 1e-4), ("llama", 1e-9)])
def test_a_16_bit_language_models_adapters_lose_nothing(kind: str, rate: float, tmp_path: Path) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    base = tiny_language.save(tmp_path / "base", kind, dtype=torch.bfloat16)
    for name, rows in (("forget", tiny_language.FORGET), ("retain", tiny_language.RETAIN)):
        tiny_language.write_rows(tmp_path / f"{name}.jsonl", rows)
    facts = {
        "method": "npo",
        "scope": {"name": "all-linear", "rank": 2},
        "forget": str(tmp_path / "forget.jsonl"),
        "retain": str(tmp_path / "retain.jsonl"),
        "train": {"steps": 2, "batch": 2, "learning_rate": rate},
        "save": {"form": "lora"},
    }
    model = open_model(base, device="cpu", dtype=torch.bfloat16)
    result = erase(model, build_recipe(facts), show_progress=False)
    factors = result.weights.factors
    assert factors is not None
    stored = dict(AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32).named_parameters())
    if rate < 1e-8:  # what rounding ate whole
        assert all(torch.equal(stored[name], t.float()) for name, t in model.tensors().items())
    result.save(tmp_path / "lora")
    theirs = PeftModel.from_pretrained(
        AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32), tmp_path / "lora"
    ).merge_and_unload()
    for name, tensor in theirs.named_parameters():
        if name not in result.changed:
            continue
        product = factors.values[f"{name}.lora_B"] @ factors.values[f"{name}.lora_A"]
        wanted = stored[name] + (product.T if kind == "gpt2" else product)
        torch.testing.assert_close(tensor, wanted, atol=1e-8, rtol=1e-6)


def test_a_bound_another_change_and_another_base_go_through_the_svd(
    tiny_folder: Path, tmp_path: Path
) -> None:
    result = low_rank_erasure(tiny_folder)
    with pytest.warns(TruncationWarning):
        result.save(tmp_path / "bound", rank=1)
    assert read_manifest(tmp_path / "bound")["lora"]["rank"] == 1
    other = opened(tiny_folder)
    add(other, result.changed[0], 1)
    result.save(tmp_path / "other", base=other)
    assert read_manifest(tmp_path / "other")["lora"]["tensors"][result.changed[0]]["rank"] == 3
    with torch.no_grad():
        result.model.tensors()[result.changed[0]].mul_(1.01)
    with pytest.warns(TruncationWarning):
        result.save(tmp_path / "by hand", rank=2)
    result.save(tmp_path / "exact")
    own = {name: tensor.detach() for name, tensor in result.model.tensors().items()}
    close(dict(opened(tmp_path / "exact").tensors()), own)
    result.undo()
    with pytest.raises(UserError, match="nothing changed"):
        result.save(tmp_path / "undone")


@pytest.mark.parametrize("form", ["full", "delta"])
def test_it_is_saved_in_every_other_form_as_well(form: str, tiny_folder: Path, tmp_path: Path) -> None:
    result = low_rank_erasure(tiny_folder)
    result.save(tmp_path / form, form=form)
    for name, tensor in opened(tmp_path / form).tensors().items():
        assert torch.equal(tensor, result.model.tensors()[name])


def test_a_callback_sees_the_models_own_layers_and_an_error_leaves_no_adapter(tiny_folder: Path) -> None:
    model = open_model(tiny_folder, device="cpu")
    names, print_of, seen = list(model.tensors()), model.fingerprint(), []

    def look(step: int, loop: Any) -> None:
        assert list(dict(model.pipe.unet.named_parameters())) == [
            name.removeprefix("unet.") for name in names if name.startswith("unet.")
        ]
        seen.append(model.fingerprint())
        if step == 2:
            raise KeyboardInterrupt

    recipe = low_rank_erasure(tiny_folder).recipe
    with pytest.raises(KeyboardInterrupt):
        erase(model, recipe, callback=look, callback_every=1, show_progress=False)
    assert len({print_of, *seen}) == 3
    assert model.fingerprint() == print_of
    assert list(model.tensors()) == names
    assert not hasattr(model.pipe.unet, "peft_config")
