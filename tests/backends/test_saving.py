"""What is saved opens with plain diffusers, keeps every byte that was not changed, or is not there at all."""

from __future__ import annotations

import json
import shutil
import warnings
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import tiny
from oubliette.backends import open_model
from oubliette.backends.diffusion import DiffusionBackend
from oubliette.backends.files.changes import RoundingWarning
from oubliette.core.errors import UserError
from oubliette.core.manifest import hash_file, read_manifest, write_manifest

UNET = "unet/diffusion_pytorch_model.safetensors"


@pytest.fixture(scope="module")
def half_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base stored in float16, with a world, a licence, and a safety checker that is carried unopened."""
    folder = tiny.save(tiny.pipeline(dtype=torch.float16), tmp_path_factory.mktemp("half") / "base")
    write_manifest(folder, {"world": "picture", "secret": "the base's own record"})
    (folder / "LICENSE.txt").write_text("as is")
    (folder / "safety_checker").mkdir()
    (folder / "safety_checker" / "config.json").write_text("{}")
    save_file({"weight": torch.ones(2)}, str(folder / "safety_checker" / "model.safetensors"))
    index = json.loads((folder / "model_index.json").read_text())
    index["safety_checker"] = ["stable_diffusion", "StableDiffusionSafetyChecker"]
    index["requires_safety_checker"] = True
    (folder / "model_index.json").write_text(json.dumps(index))
    return folder


def edit(model: DiffusionBackend, scale: float = 0.01, seed: int = 0) -> list[str]:
    """Change the text-facing weights a little, as an eraser would; returns their names."""
    generator = torch.Generator().manual_seed(seed)
    names = model.text_facing()
    with torch.no_grad():
        for name in names:
            weight = model.tensors()[name]
            weight.add_(scale * torch.randn(weight.shape, generator=generator))
    return names


def opened(folder: Path, **options: object) -> DiffusionBackend:
    model = open_model(folder, device="cpu", **options)
    assert isinstance(model, DiffusionBackend)
    return model


def same_weights(one: DiffusionBackend, two: DiffusionBackend) -> bool:
    ours, theirs = one.tensors(), two.tensors()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_weights_are_held_in_float32_and_know_their_world(half_folder: Path) -> None:
    model = opened(half_folder)
    assert {p.dtype for p in model.tensors().values()} == {torch.float32}
    assert model.world == "picture"
    assert model.pipe.safety_checker is None


def test_unchanged_tensors_keep_their_bytes_and_changed_ones_the_dtype(
    half_folder: Path, tmp_path: Path
) -> None:
    model = opened(half_folder)
    names = edit(model)
    model.save(tmp_path / "out", record={"method": "uce", "concepts": ["car"]})
    before, after = load_file(half_folder / UNET), load_file(tmp_path / "out" / UNET)
    assert before.keys() == after.keys()
    for key, value in after.items():
        assert value.dtype == torch.float16
        edited = f"unet.{key}" in names
        assert torch.equal(value, before[key]) != edited
        if edited:
            assert torch.equal(value, model.tensors()[f"unet.{key}"].half())
    whole = {f.relative_to(half_folder) for f in half_folder.rglob("*") if f.is_file()}
    assert whole == {f.relative_to(tmp_path / "out") for f in (tmp_path / "out").rglob("*") if f.is_file()}
    for name in whole - {Path(UNET), Path("oubliette.json")}:
        assert hash_file(half_folder / name) == hash_file(tmp_path / "out" / name), name
    with (
        safe_open(str(half_folder / UNET), "pt") as old,
        safe_open(str(tmp_path / "out" / UNET), "pt") as new,
    ):
        assert old.metadata() == new.metadata()


def test_the_record_says_what_was_done(half_folder: Path, tmp_path: Path) -> None:
    model = opened(half_folder)
    base_print = model.fingerprint()
    names = edit(model)
    model.save(tmp_path / "out", record={"method": "uce"})
    made = read_manifest(tmp_path / "out")
    assert made["method"] == "uce"
    assert made["world"] == "picture"
    assert made["base"]["fingerprint"] == base_print
    assert made["changed"] == sorted(names)
    assert "secret" not in made
    again = opened(tmp_path / "out")
    assert again.fingerprint() == made["fingerprint"] != base_print
    assert again.world == "picture"


def test_diffusers_opens_the_result_without_this_package(tiny_folder: Path, tmp_path: Path) -> None:
    from diffusers import StableDiffusionPipeline

    model = opened(tiny_folder)
    edit(model)
    model.save(tmp_path / "out")
    theirs = StableDiffusionPipeline.from_pretrained(str(tmp_path / "out"))
    for name, value in model.pipe.unet.state_dict().items():
        assert torch.equal(theirs.unet.state_dict()[name], value)


def test_a_fingerprint_is_of_the_stored_bytes_however_they_are_held(
    half_folder: Path, tmp_path: Path
) -> None:
    one = opened(half_folder)
    two = DiffusionBackend.from_pipeline(tiny.pipeline(dtype=torch.float16))
    half = opened(half_folder, dtype=torch.float16)
    assert one.fingerprint() == two.fingerprint() == half.fingerprint()
    edit(one)
    assert one.fingerprint() != two.fingerprint()


@pytest.mark.parametrize("dtype", [None, torch.float32])
def test_base_and_delta_are_the_full_model_bit_for_bit(
    half_folder: Path, tmp_path: Path, dtype: torch.dtype | None
) -> None:
    model = opened(half_folder)
    names = edit(model)
    model.save(tmp_path / "full", dtype=dtype)
    model.save(tmp_path / "delta", form="delta", record={"method": "uce", "concept": "car"}, dtype=dtype)
    full, delta = opened(tmp_path / "full"), opened(tmp_path / "delta")
    assert same_weights(full, delta)
    assert full.fingerprint() == read_manifest(tmp_path / "delta")["fingerprint"]
    if dtype is None:  # in another dtype the stored bytes differ, the values do not
        assert full.fingerprint() == delta.fingerprint()
    assert (delta.source, delta.world) == (str(tmp_path / "delta"), "picture")
    with safe_open(str(tmp_path / "delta" / "delta.safetensors"), "pt") as file:
        facts = file.metadata()
        assert set(file.keys()) == set(names)
    assert (facts["method"], facts["concept"]) == ("uce", "car")
    assert facts["base_fingerprint"] == opened(half_folder).fingerprint()
    assert {f.name for f in (tmp_path / "delta").iterdir()} == {"delta.safetensors", "oubliette.json"}


def test_a_delta_moves_with_its_base_and_can_be_edited_on(half_folder: Path, tmp_path: Path) -> None:
    shutil.copytree(half_folder, tmp_path / "here" / "base")
    model = opened(tmp_path / "here" / "base")
    edit(model)
    model.save(tmp_path / "here" / "delta", form="delta")
    (tmp_path / "here").rename(tmp_path / "there")
    delta = opened(tmp_path / "there" / "delta")
    assert torch.equal(
        delta.tensors()[model.text_facing()[0]], model.tensors()[model.text_facing()[0]].half().float()
    )
    edit(delta, seed=1)
    delta.save(tmp_path / "there" / "second", form="delta")
    delta.save(tmp_path / "there" / "whole")
    assert same_weights(opened(tmp_path / "there" / "second"), opened(tmp_path / "there" / "whole"))


def test_a_delta_against_a_given_base(half_folder: Path, tmp_path: Path) -> None:
    pipe = tiny.pipeline(dtype=torch.float32)
    model = DiffusionBackend.from_pipeline(pipe)
    base = DiffusionBackend.from_pipeline(tiny.pipeline())
    edit(model)
    with pytest.raises(UserError, match="base="):
        model.save(tmp_path / "delta", form="delta")
    model.save(tmp_path / "delta", form="delta", base=base)
    assert same_weights(model, opened(tmp_path / "delta", base=tiny.pipeline()))
    with pytest.raises(UserError, match="no base"):
        opened(tmp_path / "delta")
    with pytest.raises(UserError, match="fingerprint"):
        opened(tmp_path / "delta", base=tiny.pipeline(seed=5))


def test_a_wrapped_pipeline_is_shared_and_saves_whole(tmp_path: Path) -> None:
    pipe = tiny.pipeline()
    model = open_model(pipe)
    assert isinstance(model, DiffusionBackend)
    names = edit(model)
    assert torch.equal(pipe.unet.get_parameter(names[0].removeprefix("unet.")), model.tensors()[names[0]])
    model.save(tmp_path / "out")
    again = opened(tmp_path / "out")
    assert same_weights(model, again)
    assert again.fingerprint() == model.fingerprint()


def test_edited_text_encoders_are_saved(half_folder: Path, tmp_path: Path) -> None:
    model = opened(half_folder)
    name = "text_encoder.encoder.layers.0.self_attn.q_proj.weight"
    with torch.no_grad():
        model.tensors()[name].zero_()
    model.save(tmp_path / "out")
    assert read_manifest(tmp_path / "out")["changed"] == [name]
    assert opened(tmp_path / "out").tensors()[name].abs().sum() == 0


def test_names_of_older_libraries_are_found(half_folder: Path, tmp_path: Path) -> None:
    base = tmp_path / "base"
    shutil.copytree(half_folder, base)
    file = base / "text_encoder" / "model.safetensors"
    old = {f"text_model.{key}": value for key, value in load_file(file).items()}
    old["text_model.embeddings.position_ids"] = torch.arange(16)[None]
    save_file(old, str(file), metadata={"format": "pt"})
    model = opened(base)
    assert model.fingerprint() == opened(half_folder).fingerprint()
    with torch.no_grad():
        model.tensors()["text_encoder.final_layer_norm.weight"].zero_()
    model.save(tmp_path / "out")
    new = load_file(tmp_path / "out" / "text_encoder" / "model.safetensors")
    assert new.keys() == old.keys()
    assert new["text_model.final_layer_norm.weight"].abs().sum() == 0
    assert opened(tmp_path / "out").tensors()["text_encoder.final_layer_norm.weight"].abs().sum() == 0


def test_variants_and_shards_are_read_and_lose_their_suffix(tmp_path: Path) -> None:
    pipe = tiny.pipeline(dtype=torch.float16)
    pipe.save_pretrained(str(tmp_path / "base"), variant="fp16", max_shard_size="400KB")
    assert list((tmp_path / "base" / "unet").glob("*.fp16-*.safetensors"))
    model = opened(tmp_path / "base")
    edit(model)
    model.save(tmp_path / "out")
    assert same_weights(opened(tmp_path / "out"), rounded(model))


def rounded(model: DiffusionBackend) -> DiffusionBackend:
    with torch.no_grad():
        for parameter in model.tensors().values():
            parameter.copy_(parameter.half())
    return model


def test_an_overlay_takes_one_component_from_elsewhere(half_folder: Path, tmp_path: Path) -> None:
    other = tiny.pipeline(seed=9, dtype=torch.float16)
    other.unet.save_pretrained(str(tmp_path / "unet"))
    model = DiffusionBackend.open(half_folder, overlay={"unet": tmp_path / "unet"}, device="cpu")
    assert torch.equal(model.pipe.unet.conv_in.weight, other.unet.conv_in.weight.float())
    model.save(tmp_path / "out")
    assert read_manifest(tmp_path / "out")["changed"] == []
    assert opened(tmp_path / "out").fingerprint() == model.fingerprint()


def test_rounding_is_warned_of_by_what_it_eats(half_folder: Path, tmp_path: Path) -> None:
    model = opened(half_folder)
    edit(model, scale=1e-4)
    with pytest.warns(RoundingWarning, match=r"\d\.\d % of the update"):
        model.save(tmp_path / "out")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.save(tmp_path / "exact", dtype=torch.float32)
    assert torch.equal(opened(tmp_path / "exact").pipe.unet.conv_in.weight, model.pipe.unet.conv_in.weight)
    assert same_weights(opened(tmp_path / "exact"), model)


def test_refusals_leave_nothing(half_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = opened(half_folder)
    with pytest.raises(UserError, match="exists already"):
        model.save(half_folder)
    with pytest.raises(UserError, match="did you mean 'delta'"):
        model.save(tmp_path / "out", form="delt")
    with torch.no_grad():
        model.tensors()[model.text_facing()[0]].fill_(torch.inf)
    with pytest.raises(UserError, match="not finite"):
        model.save(tmp_path / "out")

    def full_disk(*_: object, **__: object) -> None:
        raise OSError("no space left on device")

    other = opened(half_folder)
    edit(other)
    monkeypatch.setattr("safetensors.torch.save_file", full_disk)
    with pytest.raises(OSError, match="no space"):
        other.save(tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_an_xl_pipeline_is_saved_whole_and_as_a_delta(tmp_path: Path) -> None:
    base = tiny.save(tiny.xl_pipeline(), tmp_path / "base")
    model = opened(base)
    edit(model)
    name = next(name for name in model.tensors() if name.startswith("text_encoder_2."))
    with torch.no_grad():
        model.tensors()[name].add_(1)
    model.save(tmp_path / "full")
    model.save(tmp_path / "delta", form="delta")
    full, delta = opened(tmp_path / "full"), opened(tmp_path / "delta")
    assert same_weights(model, full)
    assert same_weights(model, delta)
    assert full.fingerprint() == delta.fingerprint() == model.fingerprint()


@pytest.mark.parametrize("form", ["full", "delta"])
def test_a_wider_dtype_keeps_every_bit_of_every_component(
    half_folder: Path, tmp_path: Path, form: str
) -> None:
    model = opened(half_folder)
    edit(model, 1e-6)
    name = next(name for name in model.tensors() if name.startswith("text_encoder.") and "q_proj" in name)
    with torch.no_grad():
        model.tensors()[name].mul_(1 + 1e-6)
        model.tensors()[model.text_facing()[0]].zero_()  # which the base's dtype holds exactly
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.save(tmp_path / "wide", form=form, dtype=torch.float32)
        assert same_weights(opened(tmp_path / "wide"), model)
    if form == "full":
        from diffusers import StableDiffusionPipeline

        pipe = StableDiffusionPipeline.from_pretrained(tmp_path / "wide", safety_checker=None)
        own = dict(pipe.text_encoder.named_parameters())
        assert torch.equal(own[name.removeprefix("text_encoder.")], model.tensors()[name])
        config = json.loads((tmp_path / "wide" / "text_encoder" / "config.json").read_text())
        assert "float16" not in json.dumps(config)
