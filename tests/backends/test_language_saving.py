"""What a full save of a language model leaves as it was: every file that holds no weights, to the byte."""

from __future__ import annotations

import json
import shutil
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

import tiny_language
from oubliette.backends import open_model
from oubliette.backends.language import LanguageBackend
from oubliette.backends.soundness import ModelWarning
from oubliette.core.manifest import RECORD_NAME

BESIDE = {
    "LICENSE": "as is",
    "README.md": "# A card\n",
    "vocab.json": '{"a": 0}',
    "merges.txt": "#version: 0.2\n",
    "special_tokens_map.json": '{"eos_token": "<|end|>"}',
    "chat_template.jinja": "{{ messages[0].content }}",
    "additional_chat_templates/tools.jinja": "{{ messages }}",
    ".gitattributes": "*.safetensors filter=lfs\n",
}
WEIGHTS = ("pytorch_model.bin", "model.gguf", "consolidated.safetensors", "pytorch_model.bin.index.json")


def published(folder: Path, kind: str) -> Path:
    """A folder as an older library wrote it: keys of its own, a class that is named otherwise, more files."""
    tiny_language.save(folder, kind, dtype=torch.bfloat16)
    (folder / "additional_chat_templates").mkdir()
    for name, text in BESIDE.items():
        (folder / name).write_text(text)
    for name, more in (
        ("tokenizer_config.json", {"tokenizer_class": "PreTrainedTokenizerFast", "odd_key": [1, 2]}),
        ("config.json", {"torch_dtype": "bfloat16", "transformers_version": "4.40.0", "odd_key": True}),
    ):
        content = json.loads((folder / name).read_text())
        content.pop("dtype", None)
        (folder / name).write_text(json.dumps({**content, **more}, indent=4))
    return folder


def moved(folder: Path) -> LanguageBackend:
    model = LanguageBackend.open(folder, device="cpu")
    with torch.no_grad():
        for name, tensor in model.tensors().items():
            tensor.mul_(1.5 if "mlp" in name or "fc" in name else 1.0)
    return model


@pytest.mark.parametrize("kind", tiny_language.KINDS)
def test_every_file_but_the_weights_is_the_bases(tmp_path: Path, kind: str) -> None:
    base = published(tmp_path / "base", kind)
    shutil.copyfile(base / "model.safetensors", base / "consolidated.safetensors")
    for name in set(WEIGHTS) - {"consolidated.safetensors"}:
        (base / name).write_text("weights of the base")
    moved(base).save(tmp_path / "out")
    before = {p.relative_to(base).as_posix(): p.read_bytes() for p in base.rglob("*") if p.is_file()}
    after = {
        p.relative_to(tmp_path / "out").as_posix(): p.read_bytes()
        for p in (tmp_path / "out").rglob("*")
        if p.is_file()
    }
    assert set(after) - {RECORD_NAME} == set(before) - set(WEIGHTS)
    assert set(BESIDE) < set(after)
    differing = {name for name in before if name in after and before[name] != after[name]}
    assert differing == {"model.safetensors"}
    with warnings.catch_warnings():
        warnings.simplefilter("error", ModelWarning)
        again: Any = open_model(tmp_path / "out", device="cpu")
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "out").dtype == torch.bfloat16
    words, old = AutoTokenizer.from_pretrained(tmp_path / "out"), AutoTokenizer.from_pretrained(base)
    assert type(words) is type(old)
    assert words("Who?").input_ids == old("Who?").input_ids
    for name, tensor in moved(base).tensors().items():
        assert torch.equal(again.tensors()[name], tensor.bfloat16().float())


@pytest.mark.parametrize("kind", tiny_language.KINDS)
def test_a_wider_dtype_is_named_by_the_config_and_keeps_every_bit(tmp_path: Path, kind: str) -> None:
    base = published(tmp_path / "base", kind)
    model = moved(base)
    with torch.no_grad():
        for tensor in model.tensors().values():
            tensor.mul_(1 + 1e-5)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.save(tmp_path / "out", dtype=torch.float32)
        model.save(tmp_path / "delta", form="delta", dtype=torch.float32)
        for form in ("out", "delta"):
            opened: Any = open_model(tmp_path / form, device="cpu")
            assert all(torch.equal(t, model.tensors()[name]) for name, t in opened.tensors().items())
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config.pop("torch_dtype") == "float32"
    expected = json.loads((base / "config.json").read_text())
    assert expected.pop("torch_dtype") == "bfloat16"
    if kind == "gemma3":
        for part in ("text_config", "vision_config"):
            assert config[part].pop("dtype", None) == ("float32" if "dtype" in expected[part] else None)
            expected[part].pop("dtype", None)
    assert config == expected
    alone = AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype="auto")
    assert alone.dtype == torch.float32
    assert all(torch.equal(t, model.tensors()[name]) for name, t in alone.named_parameters())


def test_shards_of_the_base_become_one_file_without_their_index(tmp_path: Path) -> None:
    words = tiny_language.tokenizer()
    tiny_language.model("llama", len(words)).save_pretrained(tmp_path / "base", max_shard_size="40KB")
    words.save_pretrained(tmp_path / "base")
    assert len(list((tmp_path / "base").glob("*.safetensors"))) > 1
    moved(tmp_path / "base").save(tmp_path / "out")
    weights = [entry.name for entry in (tmp_path / "out").iterdir() if "safetensors" in entry.name]
    assert weights == ["model.safetensors"]
    AutoModelForCausalLM.from_pretrained(tmp_path / "out")
