"""The models that ship inside the package, by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from oubliette.core.errors import UserError, suggest

WEIGHTS = Path(__file__).parent / "weights"
#: What each is, for `oubliette ls models`.
ABOUT = {
    "nano": "a StableDiffusionPipeline trained on the picture world",
    "nano-gold": "its twin that never saw the three default concepts (a UNet to put into nano)",
    "nano-clip": "an open_clip judge of its own, which knows the novel pool",
    "nano-lm": "a LlamaForCausalLM trained on the text world",
    "nano-lm-gold": "its twin that read of neither forget set",
    "nano-oracle": "a classifier with heads for object, style, colour and person, and the class none",
}


def names() -> list[str]:
    """Names of the embedded models."""
    return list(ABOUT)


def path(name: str) -> Path | None:
    """The folder of an embedded model, or None where there is none of that name."""
    folder = WEIGHTS / name
    return folder if name in ABOUT and folder.is_dir() else None


def open_pipeline(name: str) -> Any:
    """An embedded `StableDiffusionPipeline` in float32; `nano-gold` is nano with its own UNet.

    Raises `UserError` for any other name.
    """
    import torch
    from diffusers import StableDiffusionPipeline, UNet2DConditionModel

    if name not in ("nano", "nano-gold") or path(name) is None:
        raise UserError(f"no embedded pipeline {name!r}; {suggest(name, ['nano', 'nano-gold'])}")
    parts = {}
    if name == "nano-gold":
        parts["unet"] = UNet2DConditionModel.from_pretrained(
            WEIGHTS / name / "unet", torch_dtype=torch.float32
        )
    return StableDiffusionPipeline.from_pretrained(WEIGHTS / "nano", torch_dtype=torch.float32, **parts)
