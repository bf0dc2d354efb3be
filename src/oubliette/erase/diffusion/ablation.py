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


Divergence = Literal["mse", "hellinger", "kl", "chi-square"]


def distance(prediction: Tensor, target: Tensor, loss: Divergence, k: float) -> Tensor:
    """The mean over the batch of each item's distance, a scalar in fp32.

    With m an item's mean squared difference, "mse" is m, and the others are the divergences between two
    Gaussian reverse steps of one variance s^2, in k = 1 / (8 s^2) (s^2 being the variance over the latent's
    size, as m is a mean): "kl" = 4 k m, "hellinger" (squared) = 1 - exp(-k m), "chi-square" = exp(8 k m) - 1.
    Next to m's, the gradient of Hellinger's fades where the two are far apart, and chi-square's grows without
    bound.
    """
    gap = (prediction.float() - target.float()).square().flatten(1).mean(dim=1)
    if loss == "hellinger":
        gap = -torch.expm1(-k * gap)
    elif loss == "kl":
        gap = 4 * k * gap
    elif loss == "chi-square":
        gap = torch.expm1(8 * k * gap)
    return gap.mean()


class Ablation(PairObjective):
    """Concept Ablation, model-based or noise-based.

    Model-based: mean ||eps_th(x_t, target prompt) - sg[eps(x_t, anchor prompt)]||^2 on noised anchor
    pictures; the teacher is the network under training itself (as released) or the original one. Noise-based:
    the target is the noise that was really added. The option `prior` adds ordinary denoising on anchor or
    retain pictures as a retain role. Paper: Kumari et al., ICCV 2023, arXiv 2303.13516. With another `loss`
    it is the closed form of f-divergence unlearning (f-DMU, ICML 2026, arXiv 2509.21167).
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
        loss: Divergence = Field(default="mse", description="how far apart two predictions are")
        k: float = Field(default=1.0, gt=0, description="k in 1 - exp(-k m), and of its kin; 1 / (8 s^2)")

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
        return distance(prediction, draw["goal"], self.options.loss, self.options.k)
