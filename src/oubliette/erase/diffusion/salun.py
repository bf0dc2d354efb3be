"""SalUn: the concept's pictures are predicted as under a pseudo prompt, in the most salient weights alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field
from torch import Tensor

from oubliette.erase.diffusion.pseudo import PseudoObjective, PseudoOptions
from oubliette.train.roles import Draw, Role

if TYPE_CHECKING:
    from oubliette.erase.request import ErasureRequest


class SalUn(PseudoObjective):
    """Saliency unlearning: mean ||eps_th(x_t, c) - sg[eps(x_t, c*)]||^2 + alpha * L.

    L is the denoising loss of other pictures, x_t a noised picture of the concept, c* the pseudo prompt: the
    anchor's. The saliency mask is a part of the scope (`scope.elements`, see
    `oubliette.erase.diffusion.saliency`), so that it goes with any method, and this one goes without. Paper:
    Fan et al., ICLR 2024, arXiv 2310.12508.
    """

    name: ClassVar[str] = "salun"
    backend: ClassVar[str] = "diffusion"
    solution: ClassVar[str] = "trained"
    paper: ClassVar[str] = (
        "Fan et al., SalUn: Empowering Machine Unlearning via Gradient-based Weight Saliency in Both Image "
        "Classification and Generation, ICLR 2024 (2310.12508)"
    )

    class Options(PseudoOptions):
        """SalUn's options; the defaults are the released ones for objects."""

        alpha: float = Field(default=0.5, ge=0, description="weight of the denoising of what is to be kept")

    options: Options

    def __init__(self, options: Options, request: ErasureRequest) -> None:
        super().__init__(options, request)

    def roles(self, step: int) -> dict[str, Role]:
        """Forget in every step, and the prior with weight alpha as retain role if there is one."""
        kept = {} if self.options.prior == "none" else {"prior": Role("retain", weight=self.options.alpha)}
        return {"forget": Role("forget"), **kept}

    def loss(self, role: str, draw: Draw) -> Tensor:
        """The distance to the pseudo prompt's prediction ("forget"), or the denoising loss ("prior")."""
        return self.prior_loss(draw) if role == "prior" else self.forget_loss(draw)
