"""Trains the VAE of the nano models: f = 8, eight latent channels, on pictures of the known and the novel
world.

The VAE may know everything, since a gold model shares it: what makes a concept known is the UNet alone.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from oubliette.workflows.world.training.run import Run, train

CONFIG: dict[str, Any] = {
    "in_channels": 3,
    "out_channels": 3,
    "down_block_types": ["DownEncoderBlock2D"] * 4,
    "up_block_types": ["UpDecoderBlock2D"] * 4,
    "block_out_channels": [16, 32, 64, 96],
    "layers_per_block": 1,
    "latent_channels": 8,
    "norm_num_groups": 8,
    "mid_block_add_attention": False,
    "sample_size": 64,
}


def build(config: dict[str, Any] | None = None) -> Any:
    from diffusers import AutoencoderKL

    return AutoencoderKL(**(config or CONFIG))


def train_vae(
    folder: Path,
    draw: Any,
    *,
    steps: int = 1800,
    batch: int = 24,
    config: dict[str, Any] | None = None,
    seed: int = 0,
) -> Any:
    """Trains to reconstruct, in bf16: L1, MSE, coarse MSE, MSE of chroma, gradient difference, a light KL.

    `draw(step, n)` gives float pictures (n, 3, H, W) in [-1, 1]. Returns the module with its
    `scaling_factor` set so that latents have unit variance.
    """
    torch.manual_seed(seed)
    vae = build(config).to(memory_format=torch.channels_last)
    run = Run(folder, {"vae": vae}, steps=steps, learning_rate=2e-3, warm_up=60, ema=0.995, decay_from=0.3)

    def loss_at(step: int) -> tuple[Tensor, dict[str, float]]:
        pictures = draw(step, batch).to(memory_format=torch.channels_last)
        generator = torch.Generator().manual_seed(step)
        with torch.autocast("cpu", torch.bfloat16):
            moments = vae.quant_conv(vae.encoder(pictures))
            mean, log_variance = moments.float().chunk(2, dim=1)
            log_variance = log_variance.clamp(-20, 4)
            latents = mean + torch.exp(0.5 * log_variance) * torch.randn(mean.shape, generator=generator)
            output = vae.decoder(vae.post_quant_conv(latents)).float()
        kl = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).mean()
        error = output - pictures
        slope = (error[..., 1:] - error[..., :-1]).abs().mean() + (
            error[..., 1:, :] - error[..., :-1, :]
        ).abs().mean()
        mse = error.square().mean()
        coarse = F.avg_pool2d(error, 8).square().mean()  # without it, colour is learned last of all
        chroma = (error - error.mean(dim=1, keepdim=True)).square().mean()  # thin lines keep their colour
        loss = F.l1_loss(output, pictures) + mse + 0.3 * slope + 40.0 * coarse + 10.0 * chroma + 1e-4 * kl
        return loss, {
            "db": round(float(10 * torch.log10(4 / mse.detach())), 2),
            "kl": round(float(kl.detach()), 2),
            "chroma": round(float(chroma.detach()), 5),
        }

    train(run, loss_at)
    with torch.no_grad():
        latents = vae.encode(draw(10_000_019, 256)).latent_dist.mean
    vae.register_to_config(scaling_factor=round(float(1 / latents.std()), 4))
    return vae.eval()
