"""Trains an oracle on pictures that are clean, worn (noise, blur, JPEG, a VAE's round trip) or rubbish
("none")."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageFilter
from torch import Tensor
from torch.nn import functional as F

from oubliette.workflows.world.training.run import Run, train
from oubliette.world.oracle import OracleNet

#: pictures uint8 (n, side, side, 3) and class indices by head, for a step
Draw = Callable[[int, int], tuple[np.ndarray, dict[str, Tensor]]]


def _jpeg(picture: np.ndarray, quality: int) -> np.ndarray:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "JPEG", quality=quality)
    return np.asarray(Image.open(buffer))


def augment(picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A picture that is still what it was: light noise, light blur, JPEG, a change of contrast, or
    untouched."""
    how = rng.integers(6)
    if how == 0:
        return np.clip(picture + rng.normal(0, rng.uniform(3, 18), picture.shape), 0, 255).astype(np.uint8)
    if how == 1:
        return np.asarray(
            Image.fromarray(picture).filter(ImageFilter.GaussianBlur(float(rng.uniform(0.3, 1.0))))
        )
    if how == 2:
        return _jpeg(picture, int(rng.integers(35, 90)))
    if how == 3:
        return np.clip(
            (picture - 128.0) * rng.uniform(0.8, 1.15) + 128 + rng.uniform(-12, 12), 0, 255
        ).astype(np.uint8)
    return picture


def noise_images(pictures: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A picture of nothing: noise, a plain field, heavy blur, a shuffle of patches, or a blend of three
    pictures."""
    shape = pictures.shape[1:]
    side = shape[0]
    how = rng.integers(6)
    one = pictures[rng.integers(len(pictures))]
    if how == 0:
        return rng.integers(0, 256, shape).astype(np.uint8)
    if how == 1:
        cells = int(rng.integers(2, 24))
        grid = rng.integers(0, 256, (cells, cells, 3)).astype(np.uint8)
        return np.asarray(Image.fromarray(grid).resize((side, side), Image.Resampling.BICUBIC))
    if how == 2:
        field = np.ones(shape) * rng.integers(0, 256, 3) + rng.normal(0, rng.uniform(0, 20), shape)
        return np.clip(field, 0, 255).astype(np.uint8)
    if how == 3:
        return np.asarray(Image.fromarray(one).filter(ImageFilter.GaussianBlur(float(rng.uniform(6, 12)))))
    if how == 4:
        patch = side // 8
        tiles = one.reshape(8, patch, 8, patch, 3).transpose(0, 2, 1, 3, 4).reshape(64, patch, patch, 3)
        tiles = tiles[rng.permutation(64)]
        return tiles.reshape(8, 8, patch, patch, 3).transpose(0, 2, 1, 3, 4).reshape(shape)
    chosen = pictures[rng.integers(len(pictures), size=3)].astype(np.float32)
    return chosen.mean(axis=0).astype(np.uint8)


@torch.no_grad()
def redraw(vae: Any, pictures: Tensor, generator: torch.Generator) -> Tensor:
    """What a rough generator would draw: pictures through the VAE, with up to half a standard deviation of
    noise on the latents and lines that wobble by up to three pixels."""
    latents = vae.encode(pictures).latent_dist.mean
    noise = torch.randn(latents.shape, generator=generator) * latents.std()
    strength = 0.5 * torch.rand((len(latents), 1, 1, 1), generator=generator)
    drawn = vae.decode(latents + strength * noise).sample.float().clamp(-1, 1)
    return _wobble(drawn, generator)


def _wobble(pictures: Tensor, generator: torch.Generator) -> Tensor:
    n, side = len(pictures), pictures.shape[-1]
    amount = 6.0 / side * torch.rand((n, 1, 1, 1), generator=generator)
    field = amount * (2 * torch.rand((n, 2, 7, 7), generator=generator) - 1)
    field = F.interpolate(field, size=(side, side), mode="bicubic", align_corners=True).permute(0, 2, 3, 1)
    still = F.affine_grid(torch.eye(2, 3).expand(n, 2, 3), [n, 3, side, side], align_corners=False)
    return F.grid_sample(pictures, still + field, padding_mode="reflection", align_corners=False)


@torch.no_grad()
def crossed(vae: Any, pictures: Tensor) -> Tensor:
    """Each picture crossed with the next one: half of either's latents."""
    latents = vae.encode(pictures).latent_dist.mean
    return vae.decode((latents + latents.roll(-1, 0)) / 2).sample.float().clamp(-1, 1)


def train_oracle(
    folder: Path,
    draw: Draw,
    classes: dict[str, list[str]],
    *,
    vae: Any | None,
    steps: int = 2000,
    batch: int = 128,
    seed: int = 3,
    rubbish_share: float = 0.12,
    shape: dict[str, Any] | None = None,
) -> Any:
    """Trains the network; where there is a `vae`, three eighths of every second batch go through it
    (`redraw`) and an eighth is crossed in pairs, which keeps the labels that agree and makes the others
    "none"; `shape` are options of `OracleNet`; returns the `OracleNet`."""
    torch.manual_seed(seed)
    net = OracleNet({head: len(names) for head, names in classes.items()}, **(shape or {})).to(
        memory_format=torch.channels_last
    )
    run = Run(folder, {"net": net}, steps=steps, learning_rate=1.5e-3, weight_decay=0.02, ema=0.99)
    none = {head: names.index("none") for head, names in classes.items() if "none" in names}
    rough, mixed = 3 * batch // 8, batch // 8

    def loss_at(step: int) -> tuple[Tensor, dict[str, float]]:
        rng = np.random.default_rng([seed, step])
        generator = torch.Generator().manual_seed(seed * 1_000_003 + step)
        pictures, target = draw(step, batch)
        junk = int(batch * rubbish_share) if none else 0
        worn = np.stack(
            [augment(p, rng) for p in pictures[: batch - junk]]
            + [noise_images(pictures, rng) for _ in range(junk)]
        )
        for head, index in none.items():
            target[head][batch - junk :] = index
        x = torch.from_numpy(worn).permute(0, 3, 1, 2).float() / 127.5 - 1
        if vae is not None and step % 2 == 0:
            with torch.autocast("cpu", torch.bfloat16):
                x[:rough] = redraw(vae, x[:rough], generator)
                if none:
                    pair = slice(rough, rough + mixed)
                    x[pair] = crossed(vae, x[pair])
                    for head in classes:
                        own = target[head][pair]
                        target[head][pair] = torch.where(own == own.roll(-1, 0), own, none.get(head, -100))
        logits = net(x.to(memory_format=torch.channels_last))
        loss = torch.stack([F.cross_entropy(logits[head], target[head]) for head in classes]).sum()
        accuracy = {
            head: round(float((logits[head].argmax(1) == target[head]).float().mean()), 3) for head in classes
        }
        return loss, accuracy

    train(run, loss_at)
    return net.eval()
