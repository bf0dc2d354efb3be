"""LoRA adapters in the ecosystem's own files, read and written: diffusers' and peft's."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from oubliette.backends.files.stored import read_tensors
from oubliette.backends.quiet import quiet_loading
from oubliette.core.errors import UserError
from oubliette.core.manifest import read_object, share
from oubliette.core.writing import write_tensors

__all__ = ["Lora", "read_lora", "save_diffusers_adapters", "save_peft_adapters"]

_SUFFIXES = {".lora_A": "lora_A", ".lora_B": "lora_B"}
_PEFT_PREFIX = "base_model.model."
_KEY = re.compile(r"(?P<module>.+)\.(?:lora_(?P<side>A|B)(?:\.default)?|lora\.(?P<old>down|up))\.weight")
_CONFIG = "adapter_config.json"


@dataclass(frozen=True)
class Lora:
    """One layer's adapter, `scale` (alpha / rank) times up (out, rank, ...) down (rank, in, ...)."""

    down: Tensor
    up: Tensor
    scale: float


def read_lora(path: Path) -> dict[str, Lora]:
    """The adapters of a file by their layers' names in it ("unet.<module>", or without a component).

    Names as diffusers and peft write them: lora_A and lora_B, or lora.down and lora.up. alpha is a
    "<module>.alpha" tensor, or the adapter's own record in the header or in peft's config beside the file,
    else the rank. UserError for any other tensor (DoRA, biases, other trainers' names), and for alphas that
    differ from module to module.
    """
    tensors, metadata = read_tensors(path)
    halves: dict[str, dict[str, Tensor]] = {}
    alphas: dict[str, float] = {}
    for key, tensor in tensors.items():
        found = _KEY.fullmatch(key.removeprefix(_PEFT_PREFIX))
        if found:
            side = found["side"] or {"down": "A", "up": "B"}[found["old"]]
            halves.setdefault(found["module"], {})[side] = tensor
        elif key.endswith(".alpha"):
            alphas[key.removeprefix(_PEFT_PREFIX).removesuffix(".alpha")] = float(tensor)
        else:
            raise UserError(f"{path}: tensor {key!r} is not of a LoRA as diffusers or peft write it")
    if not halves:
        raise UserError(f"{path}: holds no LoRA")
    record = _record(path, metadata)
    loras: dict[str, Lora] = {}
    for module, pair in halves.items():
        if len(pair) != 2:
            raise UserError(f"{path}: {module!r} has only one of the two LoRA matrices")
        rank = len(pair["A"])
        alpha = alphas[module] if module in alphas else _alpha(record, module, path, rank)
        if not rank or not isinstance(alpha, int | float):
            raise UserError(f"{path}: {module!r}: alpha {alpha!r} over rank {rank} is no scale")
        loras[module] = Lora(pair["A"], pair["B"], alpha / rank)
    return loras


def _record(path: Path, metadata: Mapping[str, str]) -> dict[str, Any]:
    """What the adapter was made with: diffusers keeps it in the file's header, peft in a config beside it."""
    if (config := path.with_name(_CONFIG)).is_file():
        return read_object(config)
    try:
        return dict(json.loads(metadata.get("lora_adapter_metadata", "{}")))
    except (json.JSONDecodeError, TypeError, ValueError) as error:
        raise UserError(f"{path}: its header's record of the adapter is not readable ({error})") from error


def _alpha(record: Mapping[str, Any], module: str, path: Path, rank: int) -> Any:
    component = module.partition(".")[0]
    facts = {key.removeprefix(f"{component}."): value for key, value in record.items()}
    for odd in ("alpha_pattern", "use_rslora", "use_dora"):
        if facts.get(odd):
            raise UserError(f"{path}: its adapter was made with {odd}, which is not supported")
    return facts.get("lora_alpha", rank)


def save_diffusers_adapters(
    pipe: Any, folder: Path, values: Mapping[str, Tensor], *, rank: int, alpha: float
) -> None:
    """Write `pytorch_lora_weights.safetensors`, which `pipe.load_lora_weights` opens.

    `values` are "unet.LAYER.weight.lora_A" (rank, in) and ".lora_B" (out, rank). UserError for adapters on a
    component that diffusers keeps none for.
    """
    by_component: dict[str, dict[str, Tensor]] = {}
    for name, tensor in values.items():
        component, _, key = _key(name).partition(".")
        by_component.setdefault(component, {})[key] = tensor.contiguous()
    known = {
        "unet": "unet",
        "transformer": "transformer",
        "text_encoder": "text_encoder",
        "text_encoder_2": "text_encoder_2",
    }
    options: dict[str, Any] = {}
    for component, tensors in by_component.items():
        if component not in known:
            raise UserError(f"diffusers keeps no adapters for '{component}'; leave its layers out")
        options[f"{component}_lora_layers"] = tensors
        modules = sorted({key.rpartition(".lora_")[0] for key in tensors})
        options[f"{component}_lora_adapter_metadata"] = {
            "r": rank,
            "lora_alpha": alpha,
            "target_modules": modules,
        }
    with quiet_loading():
        type(pipe).save_lora_weights(str(folder), safe_serialization=True, **options)
    for file in folder.glob("*.safetensors"):
        share(file)


def save_peft_adapters(
    folder: Path, values: Mapping[str, Tensor], *, rank: int, alpha: float, base: str
) -> None:
    """Write `adapter_model.safetensors` and `adapter_config.json`: `PeftModel.from_pretrained` opens them."""
    from peft import LoraConfig

    tensors = {f"base_model.model.{_key(name)}": tensor.contiguous() for name, tensor in values.items()}
    modules = sorted({_key(name).rpartition(".lora_")[0] for name in values})
    config = LoraConfig(
        r=rank,
        lora_alpha=alpha,
        target_modules=modules,
        task_type="CAUSAL_LM",
        base_model_name_or_path=base,
        inference_mode=True,
    )
    config.save_pretrained(str(folder))
    path = folder / "adapter_model.safetensors"
    write_tensors(path, tensors, {"format": "pt"})


def _key(name: str) -> str:
    """ "unet.a.b.weight.lora_A" as the files have it: "unet.a.b.lora_A.weight"."""
    for suffix, mark in _SUFFIXES.items():
        if name.endswith(f".weight{suffix}"):
            return f"{name.removesuffix(f'.weight{suffix}')}.{mark}.weight"
    raise ValueError(f"'{name}' is no adapter's tensor")
