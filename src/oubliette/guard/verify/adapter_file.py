"""Adapters on disk: which layers of the model they change, from their keys, whatever wrote them."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from oubliette.guard.canonical import json_object
from oubliette.guard.verify.tensor_file import TensorPlace, open_file

__all__ = ["CONFIG_NAME", "AdapterFile", "Layer", "is_adapter"]

CONFIG_NAME = "adapter_config.json"
# What peft, diffusers, kohya-ss and LyCORIS call an adapter's tensors, after the layer's own name.
_MARK = re.compile(
    r"^(?P<layer>.+?)\.(?P<mark>"
    r"lora_(?:A|B|E|embedding_A|embedding_B|magnitude_vector|up|down|mid)|lora\.(?:up|down)"
    r"|lora_linear_layer\.(?:up|down)|alpha|dora_scale|scale_weight"
    r"|hada_[wt][12](?:_[ab])?|lokr_[wt][12](?:_[ab])?|ia3_l|oft_[rR]|oft_blocks|oft_diag|boft_[RS]"
    r"|vera_lambda_[bd]|randlora_(?:lambda|gamma)|fourierft_spectrum|hra_u|bone_|shira_weight|c3a_kernel"
    r"|vblora_logits_[AB]|diff|diff_b|ranknum|trainable_tokens_delta|trainable_tokens_original"
    r")(?P<rest>(?:[._].*)?)$"
)
_PROCESSOR = re.compile(
    r"^(?P<layer>.+)\.processor\.(?P<part>to_q|to_k|to_v|to_out)_lora\.(?P<way>up|down)\.weight$"
)
_UP = ("lora_B", "lora_embedding_B", "lora_up", "lora.up", "lora_linear_layer.up")
_DOWN = ("lora_A", "lora_embedding_A", "lora_down", "lora.down", "lora_linear_layer.down")
_PIECE = 1 << 20  # elements
_SCALES = ("alpha", "ranknum", "scale_weight", "trainable_tokens_original")
# Tensors of an adapter that belong to no layer, and prompts, which change no weight.
_NO_LAYER = re.compile(
    r"(^|\.)(vera_[AB]|randlora_[AB]|vblora_vector_bank|prompt_embeddings|prompt_encoder)(\.|$)"
)


@dataclass
class Layer:
    """One layer with an adapter: its name as the file has it, and its tensors by what they are."""

    name: str
    parts: dict[str, TensorPlace] = field(default_factory=dict)

    @property
    def is_lora(self) -> bool:
        """Whether it is a plain low-rank product and nothing else."""
        marks = set(self.parts)
        return bool(marks & set(_UP)) and bool(marks & set(_DOWN)) and marks <= {*_UP, *_DOWN, *_SCALES}

    @property
    def on_bias(self) -> bool:
        """Whether something of it is added to the layer's bias."""
        return any(mark in ("diff_b", "ia3_l", "bias") for mark in self.parts)

    @property
    def on_weight(self) -> bool:
        """Whether something of it changes the layer's weight."""
        return any(mark not in ("diff_b", "bias", *_SCALES) for mark in self.parts)

    def moves_by(self, config: Mapping[str, Any], size: int) -> tuple[float, float, int] | None:
        """(largest |delta|, Frobenius norm, rank) of scale * B A, of a plain LoRA on a weight of `size`
        elements.

        None of anything else. The scale is alpha / rank (or / sqrt(rank), rsLoRA) where the file or `config`
        says, else 1. The product is never held whole.
        """
        up = next((self.parts[mark] for mark in _UP if mark in self.parts), None)
        down = next((self.parts[mark] for mark in _DOWN if mark in self.parts), None)
        if not self.is_lora or up is None or down is None or up.kind is None or down.kind is None:
            return None
        left, right = up.read().double().flatten(1), down.read().double().flatten(1)
        if left.ndim != 2 or right.ndim != 2 or left.shape[1] != right.shape[0]:
            return None
        rank, columns = right.shape
        if len(left) * columns != size or size == 0:
            return None
        scale = self._scale(config, rank)
        largest = square = 0.0
        for rows in left.split(max(1, _PIECE // columns)):
            delta = rows @ right
            largest = max(largest, float(delta.abs().max()))
            square += float(delta.square().sum())
        return abs(scale) * largest, float(abs(scale) * square**0.5), rank

    def _scale(self, config: Mapping[str, Any], rank: int) -> float:
        alpha: Any = config.get("lora_alpha")
        if (place := self.parts.get("alpha")) is not None and place.kind is not None and place.size == 1:
            alpha = float(place.read())
        if not isinstance(alpha, (int, float)) or rank == 0:
            return 1.0
        return float(alpha) / (rank**0.5 if config.get("use_rslora") else rank)

    def adds_nothing(self) -> bool:
        """Whether it is a plain LoRA with one factor zero throughout, as before its first step."""
        return self.is_lora and any(
            place.kind is not None and all(not bool(torch.any(piece)) for piece in place.pieces())
            for mark, place in self.parts.items()
            if mark in (*_UP, *_DOWN)
        )


@dataclass
class AdapterFile:
    """A file with adapters: its layers, full copies of tensors (`modules_to_save`), and keys nobody knows."""

    path: Path
    layers: list[Layer]
    copies: dict[str, TensorPlace]
    unknown: list[str]
    config: dict[str, Any]

    @classmethod
    def open(cls, path: Path) -> AdapterFile:
        """Read a file's header, and the `adapter_config.json` beside it; UserError if one is broken."""
        places, _ = open_file(path)
        config = path.parent / CONFIG_NAME
        layers: dict[str, Layer] = {}
        copies: dict[str, TensorPlace] = {}
        unknown: list[str] = []
        for key, place in places.items():
            split = _split(key)
            if split is not None:
                layer = layers.setdefault(split[0], Layer(split[0]))
                layer.parts[split[1]] = place
            elif _NO_LAYER.search(key):
                continue
            elif key.rpartition(".")[2] in ("weight", "bias"):
                copies[key] = place
            else:
                unknown.append(key)
        return cls(
            path, list(layers.values()), copies, unknown, json_object(config) if config.is_file() else {}
        )


def is_adapter(keys: Collection[str]) -> bool:
    """Whether tensors' keys are those of adapters."""
    split = [_split(key) for key in keys]
    return any(found[1] not in _SCALES for found in split if found) or any(map(_NO_LAYER.search, keys))


def _split(key: str) -> tuple[str, str] | None:
    """(the layer's name, what the tensor is to it), or None where the key is no adapter's."""
    if (found := _PROCESSOR.match(key)) is not None:
        part = "to_out.0" if found["part"] == "to_out" else found["part"]
        return f"{found['layer']}.{part}", f"lora.{found['way']}"
    found = _MARK.match(key)
    if found is None:
        return None
    mark = "bias" if found["rest"].endswith(".bias") else found["mark"]
    return found["layer"], mark
