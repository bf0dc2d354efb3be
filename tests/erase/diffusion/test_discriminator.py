"""The discriminator's grid, size and seed."""

from __future__ import annotations

import pytest
import torch

from oubliette.erase.diffusion.discriminator import PatchDiscriminator, build, halvings


@pytest.mark.parametrize("side", [8, 16, 32, 64, 128])
@pytest.mark.parametrize("norm", ["group", "batch"])
def test_every_power_of_two_ends_in_a_3x3_grid(side: int, norm: str) -> None:
    network = PatchDiscriminator(4, side, norm=norm, width=8)
    assert network(torch.randn(2, 4, side, side)).shape == (2, 1, 3, 3)


@pytest.mark.parametrize("side", [4, 7, 9, 24, 96])
def test_other_sides_end_in_a_small_grid(side: int) -> None:
    out = PatchDiscriminator(8, side, width=8, depth=1)(torch.randn(1, 8, side, side))
    assert all(3 <= length <= 6 for length in out.shape[2:])


def test_too_small_a_latent_is_refused() -> None:
    with pytest.raises(ValueError, match="too small"):
        PatchDiscriminator(4, 3)


def test_released_configuration_has_the_released_size() -> None:
    network = PatchDiscriminator(4, 64, norm="batch")
    assert sum(parameter.numel() for parameter in network.parameters()) == 2_767_553
    kinds = [type(layer).__name__ for layer in network.net]
    assert kinds == ["Conv2d", "LeakyReLU", *["Conv2d", "BatchNorm2d", "LeakyReLU"] * 3, "Conv2d"]


def test_depth_adds_layers_and_keeps_the_grid() -> None:
    plain, deep = PatchDiscriminator(8, 8), PatchDiscriminator(8, 8, depth=2)
    assert halvings(8) == 1
    assert len(deep.net) == len(plain.net) + 6
    assert deep(torch.randn(1, 8, 8, 8)).shape == (1, 1, 3, 3)


def test_weights_depend_on_the_seed_alone_and_global_randomness_is_untouched() -> None:
    def make(seed: int) -> torch.Tensor:
        network = build(4, 8, norm="group", width=8, depth=0, seed=seed, device=torch.device("cpu"))
        return torch.cat([parameter.flatten() for parameter in network.parameters()])

    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    first = make(5)
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.manual_seed(2)
    assert torch.equal(first, make(5))
    assert not torch.equal(first, make(6))
