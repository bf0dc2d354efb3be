"""Writes trained models into the package in the ecosystem's formats: fp16 safetensors, configurations,
logs."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from oubliette.world.training.all import Trainer


def _float32_config(path: Path) -> None:
    """Text encoders open in their stored dtype; asked for float32, a plain `from_pretrained` runs on any
    machine."""
    config = json.loads(path.read_text())
    config.pop("torch_dtype", None)
    config["dtype"] = "float32"
    path.write_text(json.dumps(config, indent=2))


def ship(trainer: Trainer, out: Path) -> Path:
    """Writes nano, nano-gold, nano-clip, nano-oracle and the training logs under `out`; returns it."""
    from diffusers import DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel

    from oubliette.manifest import write_json
    from oubliette.world.training.unet import SCHEDULE

    nano = StableDiffusionPipeline(
        vae=trainer.vae(),
        text_encoder=trainer.text(),
        tokenizer=trainer.tokenizer(),
        unet=UNet2DConditionModel.from_pretrained(trainer.nano() / "out"),
        scheduler=DDIMScheduler(**SCHEDULE),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    ).to(dtype=torch.float16)
    nano.save_pretrained(out / "nano", safe_serialization=True)
    _float32_config(out / "nano" / "text_encoder" / "config.json")
    write_json(out / "nano" / "oubliette.json", {"name": "nano", "world": "picture", "steps": trainer.steps})
    gold = UNet2DConditionModel.from_pretrained(trainer.gold() / "out").to(torch.float16)
    gold.save_pretrained(out / "nano-gold" / "unet", safe_serialization=True)
    write_json(
        out / "nano-gold" / "oubliette.json",
        {"name": "nano-gold", "world": "picture", "steps": trainer.steps},
    )
    shutil.copytree(trainer.oracle(), out / "nano-oracle", dirs_exist_ok=True)
    shutil.copytree(trainer.judge(), out / "nano-clip", dirs_exist_ok=True)
    (out / "logs").mkdir(exist_ok=True)
    for stage in ("vae", "text", "oracle", "judge", "stem", "nano", "gold"):
        shutil.copyfile(trainer.cache / stage / "log.jsonl", out / "logs" / f"{stage}.jsonl")
    return out
