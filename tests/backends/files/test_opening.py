"""A folder that lacks something, or holds something else, is one line; nothing that it lacks is made up."""

from __future__ import annotations

import json
import logging
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import tiny
import tiny_language
from oubliette.backends import open_model
from oubliette.backends.files.delta import DELTA_NAME
from oubliette.backends.files.opening import check_tensors, reason
from oubliette.backends.soundness import ModelWarning
from oubliette.core.errors import UserError

UNET = "unet/diffusion_pytorch_model.safetensors"
VAE = "vae/diffusion_pytorch_model.safetensors"
TEXT = "text_encoder/model.safetensors"
LANGUAGE = "model.safetensors"


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A tiny pipeline ("sd") and a tiny language model of every kind; read only."""
    root = tmp_path_factory.mktemp("opening")
    tiny.save(tiny.pipeline(seed=0), root / "sd")
    made = {kind: tiny_language.save(root / kind, kind) for kind in tiny_language.KINDS}
    return {"sd": root / "sd", **made}


def refused(folder: Path, said: str) -> str:
    with pytest.raises(UserError, match=said) as caught:
        open_model(folder, device="cpu")
    assert "\n" not in str(caught.value)
    return str(caught.value)


def edit(file: Path, change: Callable[[dict[str, torch.Tensor], str], object]) -> str:
    """Change the tensors of a file, at its third name, which is given back."""
    tensors = load_file(file)
    name = sorted(tensors)[2]
    change(tensors, name)
    save_file(tensors, file, metadata={"format": "pt"})
    return name


@pytest.mark.parametrize("file", [UNET, VAE, TEXT])
def test_a_tensor_that_a_component_lacks_is_named_with_its_file(
    folders: dict[str, Path], tmp_path: Path, file: str, caplog: pytest.LogCaptureFixture
) -> None:
    for library in ("diffusers", "transformers"):
        logging.getLogger(library).addHandler(caplog.handler)
    broken = Path(shutil.copytree(folders["sd"], tmp_path / "broken"))
    name = edit(broken / file, lambda tensors, name: tensors.pop(name))
    said = refused(broken, "holds no tensor")
    assert str(broken / file) in said
    assert name.replace("text_model.", "") in said
    for library in ("diffusers", "transformers"):  # whose advice is to train the model
        logging.getLogger(library).removeHandler(caplog.handler)
    assert not caplog.records
    shutil.copyfile(folders["sd"] / file, broken / file)
    edit(broken / file, lambda tensors, name: tensors.update({name: torch.zeros(1)}))
    refused(broken, "shape")


@pytest.mark.parametrize("kind", tiny_language.KINDS)
def test_a_tensor_that_a_language_model_lacks_is_named_with_its_file(
    folders: dict[str, Path], tmp_path: Path, kind: str
) -> None:
    broken = Path(shutil.copytree(folders[kind], tmp_path / "broken"))
    name = edit(broken / LANGUAGE, lambda tensors, name: tensors.pop(name))
    said = refused(broken, "holds no tensor")
    assert str(broken / LANGUAGE) in said
    assert name.rpartition("layers.")[2] in said
    shutil.copyfile(folders[kind] / LANGUAGE, broken / LANGUAGE)
    edit(broken / LANGUAGE, lambda tensors, name: tensors.update({name: torch.zeros(1)}))
    refused(broken, r"has shape \(1,\), and config.json makes it")


def test_tensors_under_an_older_name_are_told_by_their_size() -> None:
    held = {"to_q.weight": torch.zeros(4, 4), "norm.bias": torch.zeros(4)}
    check_tensors(held, {"query.weight": 16, "norm.bias": 4, "position_ids": 77}, "f")
    with pytest.raises(UserError, match=r"f: holds no tensor 'to_q.weight', which"):
        check_tensors(held, {"norm.bias": 4, "position_ids": 77}, "f")
    with pytest.raises(UserError, match=r"'norm.bias' \(and 1 others\)"):
        check_tensors(held, {}, "f")


@pytest.mark.parametrize("part", ["tokenizer", "scheduler", "vae", "unet", "text_encoder"])
@pytest.mark.parametrize("empty", [False, True])
def test_a_part_that_is_not_there_is_named(
    folders: dict[str, Path], tmp_path: Path, part: str, empty: bool
) -> None:
    broken = Path(shutil.copytree(folders["sd"], tmp_path / "broken"))
    shutil.rmtree(broken / part)
    if empty:
        (broken / part).mkdir()
    assert part in refused(broken, str(broken))
    index = json.loads((broken / "model_index.json").read_text())
    (broken / "model_index.json").write_text(json.dumps({**index, part: [None, None]}))
    refused(broken, f"model_index.json: names no {part}")


@pytest.mark.parametrize("kind", ["llama", "gpt2", "gemma3"])
def test_a_language_model_without_its_tokenizer_says_so(
    folders: dict[str, Path], tmp_path: Path, kind: str
) -> None:
    broken = Path(shutil.copytree(folders[kind], tmp_path / "broken"))
    (broken / "tokenizer.json").unlink()  # the library would make an empty one of what is left
    refused(broken, "holds no tokenizer for the model; expected tokenizer.json")


def test_a_component_alone_is_none_of_a_language_model(folders: dict[str, Path], tmp_path: Path) -> None:
    whole = folders["sd"]
    assert "UNet2DConditionModel, one component" in refused(
        whole / "unet", f"give the whole pipeline, {whole}"
    )
    refused(whole / "text_encoder", f"is no causal language model; give the whole pipeline, {whole}")
    alone = Path(shutil.copytree(whole / "vae", tmp_path / "vae"))
    refused(alone, r"AutoencoderKL, one component of a pipeline; expected a whole pipeline")


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ("[]", "found a list"),
        ("{}", "names no model_type"),
        ('{"model_type": "t5"}', "is of type t5 .* no causal language model"),
        ('{"model_type": "llama", "hidden_size": "x"}', "cannot be opened as a causal language model"),
        ('{"model_type": "own", "auto_map": {"AutoConfig": "a.B"}}', "cannot be opened"),
    ],
)
def test_a_config_of_something_else_is_one_line(
    folders: dict[str, Path], tmp_path: Path, config: str, said: str
) -> None:
    broken = Path(shutil.copytree(folders["llama"], tmp_path / "broken"))
    (broken / "config.json").write_text(config)
    refused(broken, said)


def test_a_librarys_words_are_one_line() -> None:
    assert reason(KeyError("added_tokens")) == "KeyError: added_tokens"
    assert reason(ValueError("")) == "ValueError"
    assert reason(ValueError("one of:\n  that\n")) == "one of: that"
    assert len(reason(ValueError("word " * 100))) == 200


def _moved(folder: Path, base: Path, form: str) -> Path:
    model: Any = open_model(base, device="cpu")
    name = next(name for name in model.tensors() if name.endswith(("attn2.to_k.weight", "down_proj.weight")))
    with torch.no_grad():
        model.tensors()[name].add_(torch.outer(*map(torch.ones, model.tensors()[name].shape)))
    model.save(folder, form=form)
    return folder


def _damage(file: Path, value: float) -> None:
    edit(file, lambda tensors, name: tensors[name].view(-1)[0].fill_(value))


WHERE = {
    ("sd", "full"): UNET,
    ("sd", "delta"): DELTA_NAME,
    ("sd", "lora"): "pytorch_lora_weights.safetensors",
    ("llama", "full"): LANGUAGE,
    ("llama", "delta"): DELTA_NAME,
    ("llama", "lora"): "adapter_model.safetensors",
}


@pytest.mark.parametrize(("kind", "form"), list(WHERE))
def test_a_changed_byte_and_nan_are_warned_of(
    folders: dict[str, Path], tmp_path: Path, kind: str, form: str
) -> None:
    file = _moved(tmp_path / "made", folders[kind], form) / WHERE[kind, form]
    with warnings.catch_warnings():
        warnings.simplefilter("error", ModelWarning)
        assert open_model(tmp_path / "made", device="cpu").faults == ()  # type: ignore[attr-defined]
        if form == "full":  # rounded, so there is nothing to compare
            open_model(tmp_path / "made", device="cpu", dtype=torch.float16)
    raw = bytearray(file.read_bytes())
    raw[-3] ^= 0x10
    file.write_bytes(bytes(raw))
    with pytest.warns(ModelWarning, match="changed or damaged since"):
        damaged: Any = open_model(tmp_path / "made", device="cpu")
    assert len(damaged.faults) == 1
    tensors = load_file(file)
    next(iter(tensors.values())).view(-1)[0] = float("nan")
    save_file(tensors, file, metadata={"format": "pt"})
    with pytest.warns(ModelWarning) as caught:
        broken: Any = open_model(tmp_path / "made", device="cpu")
    assert len(broken.faults) == 2
    assert any("values that are not finite" in str(one.message) for one in caught)


def test_weights_that_are_not_finite_need_no_record(folders: dict[str, Path], tmp_path: Path) -> None:
    for kind, file in (("sd", VAE), ("gpt2", LANGUAGE)):
        broken = Path(shutil.copytree(folders[kind], tmp_path / kind))
        edit(broken / file, lambda tensors, name: tensors[name].fill_(float("inf")))
        with pytest.warns(ModelWarning, match="holds values that are not finite"):
            open_model(broken, device="cpu")


def test_large_values_are_finite(folders: dict[str, Path], tmp_path: Path) -> None:
    large = Path(shutil.copytree(folders["gpt2"], tmp_path / "large"))
    edit(large / LANGUAGE, lambda tensors, name: tensors[name].fill_(3e38))  # their sum is not
    with warnings.catch_warnings():
        warnings.simplefilter("error", ModelWarning)
        open_model(large, device="cpu")
