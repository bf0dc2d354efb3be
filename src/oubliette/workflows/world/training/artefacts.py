"""Writes trained models in the ecosystem's own layouts: a pipeline, an oracle folder, an open_clip folder."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from oubliette.workflows.world.training.run import save_atomic


def save_pipeline(folder: Path, *, vae: Any, text_encoder: Any, tokenizer: Any, unet: Any) -> None:
    """A `StableDiffusionPipeline` in fp16 safetensors, which `from_pretrained` opens without this package."""
    import torch
    from diffusers import DDIMScheduler, StableDiffusionPipeline

    from oubliette.workflows.world.training.unet import SCHEDULE

    pipeline = StableDiffusionPipeline(
        vae=vae,
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        unet=unet,
        scheduler=DDIMScheduler(**SCHEDULE),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    ).to(dtype=torch.float16)
    pipeline.save_pretrained(folder, safe_serialization=True)
    _float32_config(folder / "text_encoder" / "config.json")


def _float32_config(path: Path) -> None:
    """Text encoders open in their stored dtype; asked for float32, a plain `from_pretrained` runs on any
    machine."""
    config = json.loads(path.read_text())
    config.pop("torch_dtype", None)
    config["dtype"] = "float32"
    path.write_text(json.dumps(config, indent=2))


def save_oracle(
    folder: Path,
    net: Any,
    classes: Mapping[str, Sequence[str]],
    side: int,
    shape: Mapping[str, Any] | None = None,
) -> None:
    """An oracle folder in fp16: `world.oracle.load(folder)` opens it. `shape` are the network's own options,
    where they are not the defaults."""
    save_atomic({k: v.half() for k, v in net.state_dict().items()}, folder / "model.safetensors")
    content: dict[str, Any] = {"classes": dict(classes), "side": side}
    if shape:
        content["net"] = dict(shape)
    (folder / "oracle.json").write_text(json.dumps(content, indent=1))


def save_clip(folder: Path, model: Any, config: Mapping[str, Any], tokenizer: Any) -> None:
    """An `open_clip` folder in fp16, with its tokenizer: `local-dir:` opens it."""
    save_atomic({k: v.half() for k, v in model.state_dict().items()}, folder / "open_clip_model.safetensors")
    tokenizer.save_pretrained(folder)
    (folder / "open_clip_config.json").write_text(json.dumps(config, indent=1))
