"""The patch discriminator that DoCo trains on predicted clean latents."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

Norm = Literal["group", "batch"]


def halvings(side: int) -> int:
    """How many stride-2 convolutions bring a latent's side down to 4 (to 4..7 where it is no power of two).

    Raises ValueError below a side of 4, where a 4x4 kernel with padding 1 has nothing left to look at.
    """
    if side < 4:
        raise ValueError(f"a latent of side {side} is too small for the discriminator; it needs at least 4")
    steps = 0
    while side >= 8:
        side //= 2
        steps += 1
    return steps


def normaliser(kind: Norm, channels: int) -> nn.Module:
    """GroupNorm with the most groups (at most 32) that divide the channels, or the released code's
    BatchNorm.
    """
    if kind == "batch":
        return nn.BatchNorm2d(channels)
    groups = next(g for g in (32, 16, 8, 4, 2, 1) if channels % g == 0)
    return nn.GroupNorm(groups, channels)


class PatchDiscriminator(nn.Module):
    """Tells, patch by patch, predicted clean latents of the anchor's domain from the target's.

    Input (B, channels, side, side), output (B, 1, 3, 3) logits for any side that is a power of two from 8 up:
    the number of stride-2 convolutions follows the side, so 8x8 latents get one and 64x64 get four. With 4
    channels, side 64, width 64 and norm "batch" it is the released network of DoCo (arXiv 2405.15304):
    64-128-256-512 channels, LeakyReLU 0.2, 2,767,553 parameters. `depth` adds stride-1 3x3 convolutions
    before the logits, which the short network of a small latent may need to see more than one patch's
    neighbourhood. Raises ValueError for a side below 4.
    """

    def __init__(
        self, channels: int, side: int, *, norm: Norm = "group", width: int = 64, depth: int = 0
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        fed, fan = channels, width
        for index in range(halvings(side)):
            layers.append(nn.Conv2d(fed, fan, kernel_size=4, stride=2, padding=1))
            # The first layer sees raw latents, whose scale is itself evidence; it is left unnormalised.
            if index:
                layers.append(normaliser(norm, fan))
            layers.append(nn.LeakyReLU(0.2))
            fed, fan = fan, min(2 * fan, 8 * width)
        for _ in range(depth):
            wide = max(fed, width)
            layers += [
                nn.Conv2d(fed, wide, kernel_size=3, padding=1),
                normaliser(norm, wide),
                nn.LeakyReLU(0.2),
            ]
            fed = wide
        layers.append(nn.Conv2d(fed, 1, kernel_size=4, stride=1, padding=1))
        self.net = nn.Sequential(*layers)

    def forward(self, latents: Tensor) -> Tensor:
        """Logits (B, 1, h, w) of latents (B, C, H, W): anchor below 0, target above."""
        out: Tensor = self.net(latents)
        return out


def build(
    channels: int, side: int, *, norm: Norm, width: int, depth: int, seed: int, device: torch.device
) -> PatchDiscriminator:
    """A discriminator in fp32 whose PyTorch-default initial weights depend on `seed` alone, whatever the
    device.

    The global random state is left as it was.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = PatchDiscriminator(channels, side, norm=norm, width=width, depth=depth)
    return network.to(device=device, dtype=torch.float32).train()
