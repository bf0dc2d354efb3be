"""Tiny random CLIP and classifier checkpoints in the ecosystem's own layouts, made on the spot."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch

CLIP_CONFIG = {
    "model_cfg": {
        "embed_dim": 16,
        "vision_cfg": {"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 8},
        "text_cfg": {"context_length": 24, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1},
    },
    "preprocess_cfg": {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]},
}


def clip_folder(folder: Path) -> Path:
    """An open_clip folder with random weights in safetensors."""
    import open_clip
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    (folder / "open_clip_config.json").write_text(json.dumps(CLIP_CONFIG))
    torch.manual_seed(0)
    model = open_clip.model.CLIP(**CLIP_CONFIG["model_cfg"])
    save_file(
        {k: v.contiguous() for k, v in model.state_dict().items()}, folder / "open_clip_model.safetensors"
    )
    return folder


def classifier_folder(folder: Path) -> Path:
    """A transformers image classifier with random weights and ImageNet-like labels."""
    from transformers import ResNetConfig, ResNetForImageClassification, ViTImageProcessor

    torch.manual_seed(0)
    config = ResNetConfig(
        embedding_size=8,
        hidden_sizes=[8, 16],
        depths=[1, 1],
        id2label={0: "car, automobile", 1: "truck", 2: "garbage truck, dustcart"},
        label2id={"car, automobile": 0, "truck": 1, "garbage truck, dustcart": 2},
    )
    ResNetForImageClassification(config).eval().save_pretrained(folder)
    ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(folder)
    return folder


class ToyOracle:
    """An oracle that reads its answers off the top left pixel."""

    classes: ClassVar = {"object": ["car", "truck", "none"], "style": ["neon", "none"]}

    def predict(self, pictures: np.ndarray) -> dict[str, np.ndarray]:
        corner = pictures[:, 0, 0, 0].astype(int)
        return {head: np.array(names)[corner % len(names)] for head, names in self.classes.items()}


def pictures(n: int = 7, side: int = 32) -> np.ndarray:
    """Noise, uint8 (n, side, side, 3)."""
    return np.random.default_rng(0).integers(0, 256, (n, side, side, 3), dtype=np.uint8)


def oracle() -> Any:
    """A toy oracle."""
    return ToyOracle()
