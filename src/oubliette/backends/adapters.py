"""LoRA adapters in the ecosystem's own files: diffusers' for pipelines, peft's for transformers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from oubliette.backends.quiet import quiet_loading
from oubliette.core.errors import UserError
from oubliette.core.manifest import share
from oubliette.core.writing import write_tensors

__all__ = ["save_diffusers_adapters", "save_peft_adapters"]

_SUFFIXES = {".lora_A": "lora_A", ".lora_B": "lora_B"}


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
