"""What the oracle is trained on: pictures that a rough generator would draw, and crossings of two."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from oubliette.workflows.world.training.oracle import augment, crossed, noise_images, redraw


class _Identity:
    """A VAE that changes nothing."""

    def encode(self, pictures: Tensor) -> Any:
        return SimpleNamespace(latent_dist=SimpleNamespace(mean=pictures))

    def decode(self, latents: Tensor) -> Any:
        return SimpleNamespace(sample=latents)


def _pictures(n: int = 6) -> Tensor:
    x = torch.linspace(-0.8, 0.8, 32)
    return torch.stack([torch.stack([x[:, None] * x[None] * (k + 1) / n] * 3) for k in range(n)])


def test_crossing_is_the_mean_of_neighbours_latents() -> None:
    pictures = _pictures()
    found = crossed(_Identity(), pictures)
    expected = (pictures + torch.cat([pictures[1:], pictures[:1]])) / 2
    assert torch.equal(found, expected)


def test_redrawing_keeps_a_picture_recognisable_and_its_seed() -> None:
    pictures = _pictures()
    one = redraw(_Identity(), pictures, torch.Generator().manual_seed(1))
    again = redraw(_Identity(), pictures, torch.Generator().manual_seed(1))
    other = redraw(_Identity(), pictures, torch.Generator().manual_seed(2))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)
    assert one.shape == pictures.shape
    assert one.abs().max() <= 1.0
    # At most half a standard deviation of noise, and a shift of three pixels at most.
    assert (one - pictures).square().mean() < pictures.square().mean()


def test_worn_and_rubbish_pictures_keep_their_shape() -> None:
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 256, (5, 64, 64, 3)).astype(np.uint8)
    for _ in range(24):
        for made in (augment(pictures[0], rng), noise_images(pictures, rng)):
            assert made.shape == (64, 64, 3)
            assert made.dtype == np.uint8
