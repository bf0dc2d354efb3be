"""What can be opened is opened as what it is; everything else is one line that says what would be right."""

from __future__ import annotations

import json
import pickle
import shutil
import sys
from fnmatch import fnmatch
from pathlib import Path
from types import ModuleType

import pytest
import torch

import oubliette.world
import tiny
from oubliette.backends import open_model
from oubliette.core.errors import UserError
from oubliette.core.manifest import write_manifest


def test_a_backend_is_returned_as_it_is(tiny_folder: Path) -> None:
    model = open_model(tiny_folder, device="cpu")
    assert open_model(model) is model


def test_pickles_are_refused_before_anything_is_read(tiny_folder: Path, tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple:
            return (Path.touch, (tmp_path / "boom",))

    single = tmp_path / "model.ckpt"
    single.write_bytes(pickle.dumps(Bomb()))
    folder = tmp_path / "folder"
    shutil.copytree(tiny_folder, folder)
    (folder / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    shutil.copy(single, folder / "unet" / "diffusion_pytorch_model.bin")
    for path in (single, folder, tmp_path / "absent.pt"):
        with pytest.raises(UserError, match="pickle"):
            open_model(path, device="cpu")
    assert not (tmp_path / "boom").exists()


def test_a_pickle_beside_safetensors_is_neither_read_nor_copied(tiny_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    shutil.copytree(tiny_folder, folder)
    (folder / "unet" / "diffusion_pytorch_model.bin").write_bytes(b"\x80")
    open_model(folder, device="cpu").save(tmp_path / "out")
    assert not list((tmp_path / "out").rglob("*.bin"))


def test_wrong_sources_are_named(tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    (tmp_path / "empty").mkdir()
    (tmp_path / "some.safetensors").write_bytes(b"x")
    cases: list[tuple[object, str]] = [
        ("no-such-model", "no model 'no-such-model'"),
        (tmp_path / "empty", "holds no model"),
        (tmp_path / "some.safetensors", "single file"),
        (tiny_folder / "model_index.json", "is a file"),
        (3, "cannot open a int"),
        ("nobody/nothing-at-all", "no model 'nobody/nothing-at-all'"),
    ]
    for source, message in cases:
        with pytest.raises(UserError, match=message) as caught:
            open_model(source, device="cpu")
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("damage", ["truncate", "remove", "config", "index", "class"])
def test_damaged_folders_are_named(tiny_folder: Path, tmp_path: Path, damage: str) -> None:
    folder = tmp_path / "folder"
    shutil.copytree(tiny_folder, folder)
    weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
    index = folder / "model_index.json"
    if damage == "truncate":
        weights.write_bytes(weights.read_bytes()[:1000])
    elif damage == "remove":
        weights.unlink()
    elif damage == "config":
        (folder / "unet" / "config.json").unlink()
    elif damage == "index":
        index.write_text("{")
    else:
        index.write_text(json.dumps({**json.loads(index.read_text()), "_class_name": "WonderPipeline"}))
    with pytest.raises(UserError, match=str(folder)) as caught:
        open_model(folder, device="cpu")
    assert "\n" not in str(caught.value)


def test_embedded_models_are_opened_by_name_and_a_twin_takes_the_rest_from_its_base(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    embedded = ModuleType("oubliette.world.embedded")
    weights = tmp_path / "weights"
    shutil.copytree(tiny_folder, weights / "nano")
    write_manifest(weights / "nano", {"world": "picture"})
    other = tiny.pipeline(seed=3).unet
    other.save_pretrained(str(weights / "nano-gold" / "unet"))
    embedded.names = lambda: ["nano", "nano-gold"]  # type: ignore[attr-defined]
    embedded.path = lambda name: weights / name  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "oubliette.world.embedded", embedded)
    monkeypatch.setattr(oubliette.world, "embedded", embedded, raising=False)
    nano, gold = open_model("nano", device="cpu"), open_model("nano-gold", device="cpu")
    assert (nano.source, gold.source, nano.world, gold.world) == ("nano", "nano-gold", "picture", "picture")
    differing = {
        name for name, value in gold.tensors().items() if not torch.equal(value, nano.tensors()[name])
    }
    assert {name.split(".")[0] for name in differing} == {"unet"}
    gold.save(tmp_path / "delta", form="delta", base=nano)
    assert open_model(tmp_path / "delta", device="cpu").fingerprint() == gold.fingerprint()
    gold.save(tmp_path / "full")
    assert open_model(tmp_path / "full", device="cpu").fingerprint() == gold.fingerprint()


def test_what_goes_with_the_weights_is_fetched_and_no_pickle(
    tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[str, list[str]] = {}

    def fetch(name: str, allow_patterns: list[str], ignore_patterns: list[str]) -> str:
        asked.update(allow=allow_patterns, ignore=ignore_patterns)
        return str(tiny_folder)

    monkeypatch.setattr("huggingface_hub.snapshot_download", fetch)
    open_model("owner/name", device="cpu")

    def wanted(file: str) -> bool:
        allowed, ignored = (any(fnmatch(file, each) for each in asked[key]) for key in ("allow", "ignore"))
        return allowed and not ignored

    for file in ("README.md", "LICENSE", "chat_template.jinja", "tokenizer.model", "unet/config.json"):
        assert wanted(file)
    assert wanted("model-00001-of-00002.safetensors")
    assert not any(wanted(file) for file in ("pytorch_model.bin", "unet/model.ckpt", "v1-5.safetensors"))
