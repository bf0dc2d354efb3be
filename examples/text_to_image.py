"""What the two training scripts beside this file share: flags, batches of captioned pictures, the loss."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from oubliette.data.pictures import read_pictures


def flags(description: str) -> argparse.ArgumentParser:
    """The flags of both scripts, named as diffusers' own training scripts name them."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--pretrained_model_name_or_path", required=True, help="a Stable Diffusion folder")
    parser.add_argument("--train_data_dir", required=True, help="pictures, with captions in metadata.jsonl")
    parser.add_argument("--output_dir", required=True)
    parser.add_argument("--mask", help="a published mask's folder: its tensors stay frozen")
    parser.add_argument("--max_train_steps", type=int, default=1000)
    parser.add_argument("--train_batch_size", type=int, default=1)
    parser.add_argument("--gradient_accumulation_steps", type=int, default=1)
    parser.add_argument("--max_grad_norm", type=float, default=1.0)
    parser.add_argument("--adam_weight_decay", type=float, default=1e-2)
    parser.add_argument("--mixed_precision", choices=["no", "fp16", "bf16"], default="no")
    parser.add_argument("--seed", type=int, default=0)
    return parser


def dataset(pipe: Any, folder: str) -> list[dict[str, torch.Tensor]]:
    """The folder's pictures, (3, side, side) in [-1, 1], each with the tokens of its caption."""
    side = pipe.unet.config.sample_size * pipe.vae_scale_factor
    read = read_pictures(folder, side, on_skip=lambda where, why: print(f"skipped {where}: {why}"))
    pixels = torch.from_numpy(read.pictures.astype(np.float32) / 127.5 - 1).permute(0, 3, 1, 2)
    tokens = pipe.tokenizer(
        list(read.captions),
        padding="max_length",
        truncation=True,
        max_length=pipe.tokenizer.model_max_length,
        return_tensors="pt",
    ).input_ids
    return [{"pixels": pixels[index], "tokens": tokens[index]} for index in range(len(read))]


def endless(loader: Any) -> Iterator[dict[str, torch.Tensor]]:
    """Batch after batch, epoch after epoch."""
    while True:
        yield from loader


def denoising_loss(unet: Any, pipe: Any, scheduler: Any, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """How far the UNet's prediction is from the noise (or the velocity) that was put on the latents."""
    with torch.no_grad():
        latents = pipe.vae.encode(batch["pixels"].to(pipe.vae.dtype)).latent_dist.sample()
        latents = latents * pipe.vae.config.scaling_factor
        text = pipe.text_encoder(batch["tokens"])[0]
    noise = torch.randn_like(latents)
    steps = torch.randint(scheduler.config.num_train_timesteps, (len(latents),), device=latents.device)
    noisy = scheduler.add_noise(latents, noise, steps)
    if scheduler.config.prediction_type == "v_prediction":
        target = scheduler.get_velocity(latents, noise, steps)
    else:
        target = noise
    predicted = unet(noisy, steps, text, return_dict=False)[0]
    return F.mse_loss(predicted.float(), target.float())
