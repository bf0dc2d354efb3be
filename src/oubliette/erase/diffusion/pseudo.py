"""What SalUn and EraseDiff share: the concept's own pictures, to be predicted as under another prompt."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from oubliette.erase.diffusion.common import NoiseOptions, PairObjective, Prior
from oubliette.train.roles import Draw

__all__ = ["PseudoObjective", "PseudoOptions"]


class PseudoOptions(NoiseOptions):
    """Options of an eraser that gives the concept's pictures a pseudo prompt, and keeps other pictures."""

    prior: Prior = "retain"
    teacher: Literal["current", "original"] = Field(
        default="current", description="whose prediction under the pseudo prompt; released: current"
    )


class PseudoObjective(PairObjective):
    """A trained eraser on noised pictures of the concept, drawn by the base.

    Its forget loss is mean ||eps_th(x_t, c) - sg[eps(x_t, c*)]||^2 with x_t a noised picture of the concept,
    c its prompt and c* the same with the anchor, the pseudo prompt.
    """

    options: PseudoOptions

    def pictures(self) -> Tensor:
        """Latents of the concept's own pictures, (items, C, h, w)."""
        return self.data.target_latents()

    def draw(self, step: int, rng: torch.Generator, batch: int) -> Draw:
        """Noised pictures of the concept, a prior batch, and the pseudo prompt's prediction ("goal")."""
        draw = self.draw_pairs(step, rng, batch)
        if self.options.teacher == "original":
            draw["goal"] = self.teacher(draw["noisy"], draw["t"], draw["anchor"])
        else:
            with torch.no_grad():
                draw["goal"] = self.student(draw["noisy"], draw["t"], draw["anchor"])
        return draw

    def forget_loss(self, draw: Draw) -> Tensor:
        """The mean squared distance to the goal, a scalar in fp32."""
        prediction = self.student(draw["noisy"], draw["t"], draw["target"])
        return F.mse_loss(prediction.float(), draw["goal"].float())
