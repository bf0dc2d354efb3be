"""Pruning and noise: what was only pushed down may come up again when the weights are no longer exact."""

from __future__ import annotations

from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor

from oubliette.attack.probes.probe import derived_seed
from oubliette.attack.probes.weights import WeightProbe
from oubliette.core.numbers import percent
from oubliette.core.validation import MAX_SEED, StrictModel

__all__ = ["Noise", "Prune"]


class Prune(WeightProbe):
    """The smallest weights of each linear layer at zero: floor(`share` of them), of equals the first."""

    name: ClassVar[str] = "prune"
    about: ClassVar[str] = "setting the smallest weights of linear layers to zero"
    paper: ClassVar[str] = "magnitude pruning, Han et al., NeurIPS 2015 (1506.02626)"

    class Options(StrictModel):
        """`share` of a layer's weights."""

        share: float = Field(default=0.3, gt=0, lt=1)

    @property
    def words(self) -> str:
        """ "the smallest 30 %"."""
        return f"the smallest {percent(self.options.share)}"

    def changed(self, name: str, weight: Tensor) -> Tensor:
        """The weight with its smallest numbers at zero."""
        flat = weight.flatten().clone()
        smallest = flat.abs().argsort(stable=True)[: int(self.options.share * len(flat))]
        flat[smallest] = 0
        return flat.view(weight.shape)


class Noise(WeightProbe):
    """Gaussian noise on each linear layer, `scale` times its root mean square; layer and `seed` decide it."""

    name: ClassVar[str] = "noise"
    about: ClassVar[str] = "noise on the weights of linear layers"
    paper: ClassVar[str] = "after Tice et al., Noise Injection (2412.01784)"

    class Options(StrictModel):
        """`scale` and `seed` of the noise."""

        scale: float = Field(default=0.1, gt=0)
        seed: int = Field(default=0, ge=0, le=MAX_SEED)

    @property
    def words(self) -> str:
        """ "10 % of their size"."""
        return f"{percent(self.options.scale)} of their size"

    def changed(self, name: str, weight: Tensor) -> Tensor:
        """The weight with noise on it, drawn on the CPU."""
        rng = torch.Generator().manual_seed(derived_seed("noise", self.options.seed, name))
        noise = torch.randn(weight.shape, generator=rng).to(weight.device)
        return weight + self.options.scale * weight.square().mean().sqrt() * noise
