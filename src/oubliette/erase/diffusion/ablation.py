"""Concept Ablation: each target prompt's prediction is matched, point by point, to its anchor prompt's."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from oubliette.erase.diffusion.common import NoiseOptions, PairObjective, Prior
from oubliette.train.roles import Draw, Role

if TYPE_CHECKING:
    from oubliette.erase.request import ErasureRequest


def distance(prediction: Tensor, target: Tensor, loss: Literal["mse", "hellinger"], k: float) -> Tensor:
    """The mean over the batch of each item's distance, a scalar in fp32.

    "mse": m = mean squared difference of an item. "hellinger": 1 - exp(-k m), the squared Hellinger distance
    between two Gaussian reverse steps of equal covariance; its gradient fades where the two are far apart.
    """
    gap = (prediction.float() - target.float()).square().flatten(1).mean(dim=1)
    return (gap if loss == "mse" else -torch.expm1(-k * gap)).mean()


class Ablation(PairObjective):
    """Concept Ablation, model-based or noise-based.

    Model-based: mean ||eps_th(x_t, target prompt) - sg[eps(x_t, anchor prompt)]||^2 on noised anchor
    pictures; the teacher is the network under training itself (as released) or the original one. Noise-based:
    the target is the noise that was really added. The option `prior` adds ordinary denoising on anchor or
    retain pictures as a retain role. Paper: Kumari et al., ICCV 2023, arXiv 2303.13516.
    """

    name: ClassVar[str] = "ablation"
    backend: ClassVar[str] = "diffusion"
    solution: ClassVar[str] = "trained"
    paper: ClassVar[str] = (
        "Kumari et al., Ablating Concepts in Text-to-Image Diffusion Models, ICCV 2023 (2303.13516)"
    )

    class Options(NoiseOptions):
        """Concept Ablation's options; the defaults are those of the released code, without its prior."""

        prior: Prior = "none"
        variant: Literal["model", "noise"] = Field(
            default="model", description="what the prediction is matched to"
        )
        teacher: Literal["current", "original"] = Field(
            default="current", description="whose anchor prediction"
        )
        loss: Literal["mse", "hellinger"] = "mse"
        hellinger_k: float = Field(default=1.0, gt=0, description="k in 1 - exp(-k m)")

    options: Options

    def __init__(self, options: Options, request: ErasureRequest) -> None:
        super().__init__(options, request)

    def roles(self, step: int) -> dict[str, Role]:
        """Forget in every step, and the prior as retain role if there is one."""
        return {"forget": Role("forget"), **self.prior_role()}

    def draw(self, step: int, rng: torch.Generator, batch: int) -> Draw:
        """Noised anchor pictures and what the prediction is to become ("goal", in the network's native
        output).
        """
        draw = self.draw_pairs(step, rng, batch)
        if self.options.variant == "noise":
            draw["goal"] = self.model.target_of(draw["clean"], draw["noise"], draw["t"])
        elif self.options.teacher == "original":
            draw["goal"] = self.teacher(draw["noisy"], draw["t"], draw["anchor"])
        else:
            with torch.no_grad():
                draw["goal"] = self.student(draw["noisy"], draw["t"], draw["anchor"])
        return draw

    def loss(self, role: str, draw: Draw) -> Tensor:
        """The pointwise distance on target prompts ("forget"), or the denoising loss ("prior")."""
        if role == "prior":
            return self.prior_loss(draw)
        prediction = self.student(draw["noisy"], draw["t"], draw["target"])
        return distance(prediction, draw["goal"], self.options.loss, self.options.hellinger_k)
