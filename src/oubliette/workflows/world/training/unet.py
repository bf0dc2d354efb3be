"""Trains the denoisers of the nano models on latents and captions that are made once.

`nano` and `nano-gold` share a *stem*: the first steps, in which neither sees the default concepts. Then the
run forks:
nano goes on with everything, gold goes on without them, from the same weights, with the same seed and for
the same
number of steps. Gold has therefore never seen the concepts, and both have had the same training.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from oubliette.workflows.world.training.run import Run, train

CONFIG: dict[str, Any] = {
    "sample_size": 8,
    "in_channels": 8,
    "out_channels": 8,
    "layers_per_block": 1,
    "block_out_channels": [80, 136],
    "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D"],
    "up_block_types": ["CrossAttnUpBlock2D", "UpBlock2D"],
    "cross_attention_dim": 128,
    "attention_head_dim": 4,
    "norm_num_groups": 8,
}
SCHEDULE: dict[str, Any] = {
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "clip_sample": False,
    "set_alpha_to_one": False,
    "steps_offset": 1,
    "prediction_type": "epsilon",
}


@dataclass(frozen=True)
class Latents:
    """A training set made once: `latents` (n, C, h, w) scaled; `texts` (m, L, d) embeddings of distinct
    captions;
    `choices` (n, k) indices of the k captions of each picture; `empty` the index of the empty caption."""

    latents: Tensor
    texts: Tensor
    choices: Tensor
    empty: int

    def batch(self, size: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        rows = torch.randint(len(self.latents), (size,), generator=generator)
        column = torch.randint(self.choices.shape[1], (size,), generator=generator)
        chosen = self.choices[rows, column]
        chosen = torch.where(torch.rand(size, generator=generator) < 0.1, torch.tensor(self.empty), chosen)
        latents = self.latents[rows].float()
        return latents, self.texts[chosen].float()


def build(config: dict[str, Any] | None = None) -> Any:
    from diffusers import UNet2DConditionModel

    return UNet2DConditionModel(**(config or CONFIG))


def train_unet(
    folder: Path,
    data: Latents,
    *,
    steps: int,
    total: int | None = None,
    batch: int = 64,
    learning_rate: float = 1e-3,
    seed: int = 4,
    config: dict[str, Any] | None = None,
) -> Any:
    """Trains a denoiser by epsilon MSE with min-SNR-5 weights; returns it with its averaged weights.

    `total` > `steps` makes it a stem: the learning rate follows the longer schedule. Call `fork` before it
    for a
    branch that goes on from a stem.
    """
    from diffusers import DDIMScheduler

    torch.manual_seed(seed)
    unet = build(config).to(memory_format=torch.channels_last).train()
    schedule = DDIMScheduler(**SCHEDULE)
    signal = schedule.alphas_cumprod
    weight = torch.clamp(signal / (1 - signal), max=5.0) / (signal / (1 - signal))
    run = Run(
        folder,
        {"unet": unet},
        steps=steps,
        learning_rate=learning_rate,
        warm_up=100,
        ema=0.998,
        every=250,
        total=total,
    )

    def loss_at(step: int) -> tuple[Tensor, dict[str, float]]:
        generator = torch.Generator().manual_seed(seed * 1_000_003 + step)
        latents, texts = data.batch(batch, generator)
        noise = torch.randn(latents.shape, generator=generator)
        t = torch.randint(1000, (len(latents),), generator=generator)
        noisy = schedule.add_noise(latents, noise, t).to(memory_format=torch.channels_last)
        output = unet(noisy, t, encoder_hidden_states=texts, return_dict=False)[0]
        error = (output - noise).square().mean(dim=(1, 2, 3))
        return (weight[t] * error).mean() * 2, {"mse": round(float(error.detach().mean()), 4)}

    train(run, loss_at)
    return unet.eval()
