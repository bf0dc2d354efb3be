"""EraseDiff: forgetting as a bilevel problem, its inner minimum estimated by steps that are taken back."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from oubliette.erase.diffusion.pseudo import PseudoObjective, PseudoOptions
from oubliette.train.cost import StepCost
from oubliette.train.roles import Draw, Role

if TYPE_CHECKING:
    from oubliette.erase.request import ErasureRequest


class EraseDiff(PseudoObjective):
    """Minimise the denoising loss on other pictures, subject to f being least: L + lambda (f(th) - f_K).

    f is mean ||eps_th(x_t, c) - sg[eps(x_t, c*)]||^2 on noised pictures of the concept, c* the anchor's
    prompt. f_K, the value function, is f after K inner steps from the weights as they stand, which get every
    bit back; it is a constant, as released, so that the update is that of L + lambda f whatever K is, and
    f(th) - f_K, the loss that is logged, says how far from its minimum f still is. lambda is a constant as
    released; `surgery: bome` sets it each step from both gradients, as the bilevel method that this is built
    on does (Liu et al., 2209.08709). Paper: Wu et al., CVPR 2025, arXiv 2401.05779.
    """

    name: ClassVar[str] = "erasediff"
    backend: ClassVar[str] = "diffusion"
    solution: ClassVar[str] = "trained"
    paper: ClassVar[str] = (
        "Wu et al., Erasing Undesirable Influence in Diffusion Models, CVPR 2025 (2401.05779)"
    )

    class Options(PseudoOptions):
        """EraseDiff's options; the defaults are the released ones for nudity (for objects K is 1)."""

        forget_weight: float = Field(default=1.0, ge=0, description="lambda")
        inner_steps: int = Field(default=2, ge=0, description="K, inner steps on f; 0 leaves them out")
        inner_optimizer: Literal["adam", "sgd"] = "adam"
        inner_learning_rate: float = Field(default=1e-5, gt=0)

    options: Options

    @classmethod
    def step_cost(cls, options: Any) -> StepCost:
        """The inner run's passes for each forget item of a step."""
        inner = options.inner_steps
        return replace(super().step_cost(options), forwards=inner + 1 if inner else 0, backwards=inner)

    def __init__(self, options: Options, request: ErasureRequest) -> None:
        super().__init__(options, request)

    def roles(self, step: int) -> dict[str, Role]:
        """Forget with weight lambda, and the prior as retain role if there is one."""
        return {"forget": Role("forget", weight=self.options.forget_weight), **self.prior_role()}

    def before(self, step: int, draw: Draw) -> None:
        """The inner run: "least" is f after K steps; the weights keep their bits."""
        if self.options.inner_steps:
            draw["least"] = self.least(draw)

    def least(self, draw: Draw) -> Tensor:
        """f_K: the forget loss (a scalar without a graph) after K inner steps from the weights as they stand.

        The steps lie in a difference to the weights, which moves all elements of the scope's tensors.
        """
        parameters = self.weights.parameters
        moves = [nn.Parameter(torch.zeros_like(each, dtype=torch.float32)) for each in parameters]
        kind = torch.optim.Adam if self.options.inner_optimizer == "adam" else torch.optim.SGD
        optimizer = kind(moves, lr=self.options.inner_learning_rate, fused=True)
        for _ in range(self.options.inner_steps):
            with self.weights.perturbed([move.detach() for move in moves]):
                gradients = torch.autograd.grad(self.forget_loss(draw), parameters, allow_unused=True)
            for move, gradient in zip(moves, gradients, strict=True):
                move.grad = None if gradient is None else gradient.float()
            optimizer.step()
        with torch.no_grad(), self.weights.perturbed([move.detach() for move in moves]):
            return self.forget_loss(draw)

    def loss(self, role: str, draw: Draw) -> Tensor:
        """f(th) - f_K ("forget"), or the denoising loss ("prior")."""
        if role == "prior":
            return self.prior_loss(draw)
        loss = self.forget_loss(draw)
        return loss - draw["least"] if "least" in draw else loss
