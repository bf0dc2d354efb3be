"""Whether a library opened what lies in a folder, its parts and every tensor; and in one line why not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from oubliette.core.errors import UserError
from oubliette.core.manifest import read_object

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "check_causal",
    "check_tensors",
    "check_vocabulary",
    "reason",
    "refuse_component",
    "refuse_missing",
]

# What a tokenizer's words lie in: one of these sets of files.
_VOCABULARIES = (("tokenizer.json",), ("vocab.json", "merges.txt"), ("vocab.txt",), ("tekken.json",))
_VOCABULARY_KINDS = ("*.model", "*.spm", "*.tiktoken")
_SHOWN = 200


def reason(error: BaseException) -> str:
    """What a library's exception says, in one line of at most 200 characters and never empty."""
    text = " ".join(str(error).split())
    if "ignore_mismatched_sizes" in text and "report" in text:  # what it points to is not printed
        text = "a tensor has another shape than its component's config.json makes it"
    text = text.strip("'\"") if isinstance(error, KeyError) else text
    if len(text.split()) < 2:
        text = f"{type(error).__name__}: {text}".removesuffix(": ")
    return text if len(text) <= _SHOWN else text[: _SHOWN - 3] + "..."


def refuse_component(folder: Path) -> None:
    """UserError where a folder with a `config.json` holds but one component of a diffusers pipeline."""
    config = read_object(folder / "config.json")
    if "_class_name" in config and "model_type" not in config:
        raise UserError(
            f"{folder}: holds {config['_class_name']}, one component of a pipeline{_whole(folder)}"
        )


def check_causal(folder: Path) -> None:
    """UserError where a transformers folder's `config.json` is of anything but a causal language model."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    config = read_object(folder / "config.json")
    kind = config.get("model_type")
    if not isinstance(kind, str):
        raise UserError(f"{folder / 'config.json'}: names no model_type, as a transformers model's does")
    if kind not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES and "auto_map" not in config:
        named = config.get("architectures") or ["no class named"]
        raise UserError(
            f"{folder}: is of type {kind} ({named[0]}), which is no causal language model{_whole(folder)}"
        )


def _whole(folder: Path) -> str:
    if (folder.parent / "model_index.json").is_file():
        return f"; give the whole pipeline, {folder.parent}"
    return "; expected a whole pipeline (model_index.json) or a causal language model"


def check_vocabulary(folder: Path, owner: str) -> None:
    """UserError where a tokenizer's folder holds no vocabulary: the library would make an empty one."""
    files = {entry.name for entry in folder.iterdir()} if folder.is_dir() else set()
    if any(files.issuperset(names) for names in _VOCABULARIES):
        return
    if not any(any(folder.glob(kind)) for kind in _VOCABULARY_KINDS):
        raise UserError(
            f"{folder}: holds no tokenizer for {owner}; expected tokenizer.json, or vocab.json and "
            "merges.txt (tokenizer.save_pretrained(folder) writes them)"
        )


def check_tensors(held: Mapping[str, Tensor], stored: Mapping[str, int], where: str) -> None:
    """UserError naming the first of a component's parameters that its files do not hold: it was made up.

    `stored` are the numbers of values by the same names. A parameter that is there under an older name is
    told by its size: a library renames what it reads (the attention of old VAEs).
    """
    spare = Counter(size for name, size in stored.items() if name not in held)
    missing = []
    for name, tensor in held.items():
        if name not in stored:
            spare[tensor.numel()] -= 1
            missing += [name] if spare[tensor.numel()] < 0 else []
    refuse_missing(missing, where)


def refuse_missing(missing: Iterable[str], where: str) -> None:
    """UserError naming the first of `missing` tensors, if there is one."""
    names = sorted(missing)
    if names:
        others = f" (and {len(names) - 1} others)" if len(names) > 1 else ""
        raise UserError(
            f"{where}: holds no tensor '{names[0]}'{others}, which the model needs; fetch it anew"
        )
