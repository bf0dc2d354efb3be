"""Classifier-free guidance, and where something attached to a model steps in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import torch
from torch import Tensor

from oubliette.backends.text import TextEmbedding

__all__ = ["Guidance", "Guide", "Predictor"]

Predictor = Callable[[Tensor, Tensor, TextEmbedding], Tensor]
"""The one call that drawing makes: the network's native output at (noisy, t, text)."""


class Guide(Protocol):
    """One batch's prediction in every step; it may keep what it needs from one step to the next."""

    def __call__(self, number: int, t: Tensor, latents: Tensor) -> Tensor:
        """The prediction (B, C, h, w) in step `number` (from 0) at timestep `t` (a scalar) for scaled
        latents.
        """


@dataclass(frozen=True)
class Guidance:
    """e = e_empty + scale (e_text - e_empty), both in one pass as diffusers does; e_text alone where scale <=
    1.

    `text` and `empty` hold B rows each, `steps` is how many steps the whole drawing has, `prompts` what
    `text` was encoded from. Paper: Ho & Salimans 2022 (2207.12598), in Stable Diffusion's scale.
    """

    predict: Predictor
    text: TextEmbedding
    empty: TextEmbedding
    scale: float
    steps: int
    prompts: tuple[str, ...] = ()

    @property
    def guided(self) -> bool:
        """Whether the empty prompt takes part."""
        return self.scale > 1

    def __call__(self, number: int, t: Tensor, latents: Tensor) -> Tensor:
        """See `Guide`."""
        if not self.guided:
            return self.predict(latents, t.expand(len(latents)), self.text)
        both = torch.cat([latents] * 2)
        blank, full = self.predict(both, t.expand(len(both)), self._both).chunk(2)
        return blank + self.scale * (full - blank)

    @cached_property
    def _both(self) -> TextEmbedding:
        return TextEmbedding.join([self.empty, self.text])
