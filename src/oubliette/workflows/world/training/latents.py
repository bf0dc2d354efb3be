"""Makes the training set of a denoiser once: pictures to latents, captions to embeddings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file

from oubliette.workflows.world.training.run import save_atomic
from oubliette.workflows.world.training.unet import Latents


@torch.no_grad()
def encode_pictures(vae: Any, pictures: np.ndarray, batch: int = 100) -> torch.Tensor:
    """Scaled latents fp16 (n, C, h, w) of uint8 pictures (n, H, W, 3)."""
    parts = []
    for start in range(0, len(pictures), batch):
        x = torch.from_numpy(pictures[start : start + batch]).permute(0, 3, 1, 2).float().div_(127.5).sub_(1)
        parts.append((vae.encode(x).latent_dist.mean * vae.config.scaling_factor).half())
    return torch.cat(parts)


@torch.no_grad()
def encode_texts(
    text_encoder: Any, tokenizer: Any, captions: Sequence[str], batch: int = 256
) -> torch.Tensor:
    """Last hidden states fp16 (n, L, d), padded to the tokenizer's length as pipelines do."""
    parts = []
    for start in range(0, len(captions), batch):
        ids = tokenizer(
            list(captions[start : start + batch]), padding="max_length", truncation=True, return_tensors="pt"
        )
        parts.append(text_encoder(ids.input_ids).last_hidden_state.half())
    return torch.cat(parts)


def make_latents(
    path: Path,
    vae: Any,
    text_encoder: Any,
    tokenizer: Any,
    draw: Callable[[int, int], tuple[np.ndarray, list[list[str]]]],
    *,
    n: int,
    chunk: int = 1000,
) -> Latents:
    """Draws `n` pictures with k captions each (`draw(index, size)`), encodes them, keeps the set in
    `path`."""
    if not path.exists():
        latents, rows = [], []
        for index in range(0, n, chunk):
            pictures, captions = draw(index, min(chunk, n - index))
            latents.append(encode_pictures(vae, pictures))
            rows += captions
        distinct = sorted({caption for row in rows for caption in row} | {""})
        number = {caption: i for i, caption in enumerate(distinct)}
        choices = torch.tensor([[number[caption] for caption in row] for row in rows])
        texts = encode_texts(text_encoder, tokenizer, distinct)
        save_atomic(
            {
                "latents": torch.cat(latents),
                "texts": texts,
                "choices": choices,
                "empty": torch.tensor(number[""]),
            },
            path,
        )
    stored = load_file(path)
    return Latents(stored["latents"], stored["texts"], stored["choices"], int(stored["empty"]))
