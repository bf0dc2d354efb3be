"""Trains the CLIPs of the world: the text tower that nano reads with, and the independent judge nano-clip.

Both are plain contrastive models on (picture, caption); the judge knows the novel pool, and shares no
weights with
the model it judges.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from oubliette.workflows.world.training.run import Run, train

#: pictures float (n, 3, H, W) in [-1, 1] and their captions, for a step
Draw = Callable[[int, int], tuple[Tensor, list[str]]]
#: the same with class indices by head
LabelledDraw = Callable[[int, int], tuple[Tensor, list[str], dict[str, Tensor]]]

TEXT_CONFIG: dict[str, Any] = {
    "hidden_size": 128,
    "intermediate_size": 384,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "projection_dim": 128,
    "hidden_act": "quick_gelu",
}
#: open_clip's own configuration format.
JUDGE_CONFIG: dict[str, Any] = {
    "embed_dim": 128,
    "vision_cfg": {"image_size": 64, "layers": [1, 1, 1, 1], "width": 16, "head_width": 64},
    "text_cfg": {"context_length": 24, "vocab_size": 0, "width": 96, "heads": 4, "layers": 2},
}


class ConvTower(nn.Module):
    """A small convolutional picture encoder: used to train text towers, then thrown away."""

    def __init__(self, out: int, side: int, width: int = 32) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        before, stages = 3, 4 if side >= 64 else 3
        for stage in range(stages):
            now = width * 2 ** min(stage, 2) + (width if stage == 3 else 0)
            layers += [nn.Conv2d(before, now, 3, stride=2, padding=1), nn.GroupNorm(8, now), nn.SiLU()]
            if stage:
                layers += [nn.Conv2d(now, now, 3, padding=1), nn.GroupNorm(8, now), nn.SiLU()]
            before = now
        self.body = nn.Sequential(*layers)
        self.head = nn.Linear(before * 4, out)

    def forward(self, pictures: Tensor) -> Tensor:
        features = F.adaptive_avg_pool2d(self.body(pictures), 2).flatten(1)
        return self.head(features)


def contrastive(pictures: Tensor, texts: Tensor, scale: Tensor) -> Tensor:
    """The symmetric InfoNCE loss of CLIP: picture i belongs to caption i."""
    logits = scale.exp() * F.normalize(pictures, dim=-1) @ F.normalize(texts, dim=-1).T
    target = torch.arange(len(logits))
    return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2


def train_text_tower(
    folder: Path, draw: Draw, tokenizer: Any, *, steps: int = 1000, batch: int = 96, seed: int = 1
) -> Any:
    """Trains a `CLIPTextModel` against a convolutional picture tower; returns the text model alone, in eval
    mode.

    The picture tower sees 32x32: enough to tell the world's things apart, at a quarter of the cost.
    """
    from transformers import CLIPTextConfig, CLIPTextModelWithProjection

    torch.manual_seed(seed)
    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        max_position_embeddings=tokenizer.model_max_length,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        **TEXT_CONFIG,
    )
    text = CLIPTextModelWithProjection(config).train()
    tower = ConvTower(config.projection_dim, 32)
    scale = nn.ParameterDict({"value": nn.Parameter(torch.tensor(2.66))})
    run = Run(
        folder, {"text": text, "tower": tower, "scale": scale}, steps=steps, learning_rate=1.5e-3, ema=0.99
    )

    def loss_at(step: int) -> tuple[Tensor, dict[str, float]]:
        pictures, captions = draw(step, batch)
        ids = tokenizer(captions, padding="longest", truncation=True, return_tensors="pt").input_ids
        pictures = F.adaptive_avg_pool2d(pictures, 32)
        loss = contrastive(tower(pictures), text(input_ids=ids).text_embeds, scale["value"].clamp(max=4.6))
        return loss, {}

    train(run, loss_at)
    return text.eval()


def train_judge(
    folder: Path,
    draw: LabelledDraw,
    tokenizer_folder: Path,
    classes: dict[str, int],
    *,
    side: int = 64,
    steps: int = 2000,
    batch: int = 96,
    seed: int = 2,
) -> tuple[Any, dict[str, Any]]:
    """Trains an `open_clip.CLIP` of its own; returns it with its `open_clip_config.json` content.

    Linear heads on the picture's embedding, one for each entry of `classes` (head: number of classes), are
    trained along and thrown away: captions that leave things out make a weak teacher for a small picture
    tower, labels a strong one.
    """
    import open_clip

    torch.manual_seed(seed)
    tokenizer = open_clip.tokenizer.HFTokenizer(str(tokenizer_folder), context_length=24)
    model_config = {k: dict(v) if isinstance(v, dict) else v for k, v in JUDGE_CONFIG.items()}
    model_config["text_cfg"] |= {"vocab_size": len(tokenizer.tokenizer), "hf_tokenizer_name": "tokenizer"}
    model_config["vision_cfg"] |= {"image_size": side}
    shape = {k: dict(v) if isinstance(v, dict) else v for k, v in model_config.items()}
    shape["text_cfg"].pop("hf_tokenizer_name")
    model = open_clip.CLIP(**shape).train()
    width = int(JUDGE_CONFIG["embed_dim"])
    heads = nn.ModuleDict({head: nn.Linear(width, count) for head, count in classes.items()})
    modules: dict[str, nn.Module] = {"clip": model, "heads": heads}
    run = Run(folder, modules, steps=steps, learning_rate=1.5e-3, weight_decay=0.05, ema=0.99)

    def loss_at(step: int) -> tuple[Tensor, dict[str, float]]:
        pictures, captions, labels = draw(step, batch)
        with torch.autocast("cpu", torch.bfloat16):
            seen = model.encode_image(pictures)
            read = model.encode_text(tokenizer(captions))
        seen = seen.float()
        pairs = contrastive(seen, read.float(), model.logit_scale.clamp(max=4.6))
        named = torch.stack([F.cross_entropy(heads[head](seen), labels[head]) for head in classes]).mean()
        return pairs + named, {
            "pairs": round(float(pairs.detach()), 4),
            "named": round(float(named.detach()), 4),
        }

    train(run, loss_at)
    preprocess = {
        "mean": [0.5] * 3,
        "std": [0.5] * 3,
        "interpolation": "bicubic",
        "resize_mode": "squash",
        "size": [side, side],
    }
    return model.eval(), {"model_cfg": model_config, "preprocess_cfg": preprocess}


def text_model(tower: Any) -> Any:
    """The `CLIPTextModel` inside a trained text tower: what a pipeline reads with."""
    from transformers import CLIPTextModel

    model = CLIPTextModel(tower.config)
    wanted = set(model.state_dict())
    state = {
        (key if key in wanted else key.removeprefix("text_model.")): value
        for key, value in tower.state_dict().items()
        if "text_projection" not in key
    }
    model.load_state_dict(state)
    return model.eval()
