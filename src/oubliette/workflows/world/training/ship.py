"""Writes trained models into the package in the ecosystem's formats: fp16 safetensors, configurations,
logs."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from oubliette.workflows.world.training.all import Trainer


def _forget_paths(folder: Path) -> None:
    """Drops where a component was read from: a path of the machine that trained it."""
    for path in folder.rglob("config.json"):
        config = json.loads(path.read_text())
        if config.pop("_name_or_path", None) is not None:
            path.write_text(json.dumps(config, indent=2) + "\n")


def ship(trainer: Trainer, out: Path) -> Path:
    """Writes nano, nano-gold, nano-clip, nano-oracle and the training logs under `out`; returns it."""
    from diffusers import UNet2DConditionModel

    from oubliette.core.manifest import write_json
    from oubliette.workflows.world.training.artefacts import save_pipeline

    save_pipeline(
        out / "nano",
        vae=trainer.vae(),
        text_encoder=trainer.text(),
        tokenizer=trainer.tokenizer(),
        unet=UNet2DConditionModel.from_pretrained(trainer.nano() / "out"),
    )
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
    _forget_paths(out)
    return out
