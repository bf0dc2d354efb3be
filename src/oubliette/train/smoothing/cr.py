"""The forget loss with its gradient's change along itself as a penalty."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Literal

import torch
from torch import Tensor

from oubliette.train.gradients import global_norm
from oubliette.train.roles import Role
from oubliette.train.smoothing.base import GradientAt, NoSmoother, Passes
from oubliette.train.smoothing.side import above_zero, at_least_zero, forget_roles, forget_side
from oubliette.train.weights import Weights

__all__ = ["Cr"]

Gradients = dict[str, list[Tensor]]


class Cr(NoSmoother):
    """Curvature regularisation: the gradient of L + gamma * ||grad L(w + mu v) - grad L(w)||, v = g / ||g||.

    L is the weighted forget loss, g its gradient at w; norms are L2 over all trained tensors together, and
    retain gradients are plain (Unlearn-Smooth, arXiv 2502.05374, with its gamma 10 and mu 0.01; in its code
    the penalty is a number without a gradient, and the forget gradient counts twice). v moves with w: with d
    the difference, e = d / ||d||, H and H' the Hessians at w and w + mu v, and u = H' e, the penalty's
    gradient is u - H (e - mu / ||g|| * (u - <v, u> v)).

    `exact` takes both products by double backward, `finite_diff` as differences of gradients a step of
    `epsilon` apart: three more plain evaluations in all, and kinks in the loss (a LeakyReLU's) enter as large
    curvature, which `exact` does not see. On weights of 16 bits mu and epsilon are mostly rounded away.
    Several gradients are held at once, up to seven times the trained tensors for one forget role. gamma = 0
    is the plain gradient, bit for bit.
    """

    def __init__(
        self,
        gamma: float = 10.0,
        mu: float = 0.01,
        variant: Literal["exact", "finite_diff"] = "exact",
        epsilon: float = 0.01,
    ) -> None:
        at_least_zero("cr", gamma=gamma)
        above_zero("cr", mu=mu, epsilon=epsilon)
        self.gamma, self.mu, self.variant, self.epsilon = gamma, mu, variant, epsilon
        self._facts: dict[str, float] = {}

    @property
    def extra_passes(self) -> Passes:
        """The gradient at w + mu v, and two Hessian products."""
        if self.gamma == 0:
            return Passes()
        return Passes(3, 5) if self.variant == "exact" else Passes(3, 3)

    def gradients(
        self, at: GradientAt, weights: Weights, roles: Mapping[str, Role]
    ) -> dict[str, list[Tensor]]:
        """Forget roles with the penalty's gradient, retain roles plain."""
        found = super().gradients(at, weights, roles)
        forget = forget_roles(roles)
        if not forget or self.gamma == 0:
            return found
        v = forget_side(found, forget, roles)
        norm = float(global_norm(v))
        self._facts = {"gradient_norm": norm}
        if not 0 < norm < math.inf:
            return found  # no slope, no direction; what is not finite is reported by the loop
        torch._foreach_div_(v, norm)
        shift = list(torch._foreach_mul(v, self.mu))
        with weights.perturbed(shift):
            ahead = {name: at(name) for name in forget}
        e = forget_side(ahead, forget, roles)
        torch._foreach_sub_(e, forget_side(found, forget, roles))
        change = float(global_norm(e))
        self._facts["curvature"] = change / self.mu
        if not 0 < change < math.inf:
            return found  # nothing bends: the penalty is at its least
        torch._foreach_div_(e, change)
        products = self._products(at, weights, forget, shift, e, ahead)
        del ahead, shift
        u = forget_side(products, forget, roles)
        along = float(torch.stack([(a * b).sum() for a, b in zip(v, u, strict=True)]).sum())
        torch._foreach_add_(u, v, alpha=-along)
        torch._foreach_add_(e, u, alpha=-self.mu / norm)
        del u, v
        behind = self._products(at, weights, forget, None, e, found)
        for name in forget:
            torch._foreach_sub_(products[name], behind[name])
            torch._foreach_add_(found[name], products[name], alpha=self.gamma)
        return found

    def _products(
        self,
        at: GradientAt,
        weights: Weights,
        forget: list[str],
        shift: list[Tensor] | None,
        direction: list[Tensor],
        here: Gradients,
    ) -> Gradients:
        """Each role's Hessian at w + shift times the direction; `here` holds the gradients there."""
        if self.variant == "exact":
            return _at(weights, shift, lambda: {n: at.times_hessian(n, direction) for n in forget})
        length = float(global_norm(direction))
        if length == 0:
            return {name: [torch.zeros_like(part) for part in direction] for name in forget}
        moved = list(torch._foreach_mul(direction, self.epsilon / length))
        if shift is not None:
            torch._foreach_add_(moved, shift)
        products = _at(weights, moved, lambda: {name: at(name) for name in forget})
        for name in forget:
            torch._foreach_sub_(products[name], here[name])
            torch._foreach_mul_(products[name], length / self.epsilon)
        return products

    def facts(self) -> dict[str, float]:
        """`gradient_norm`: ||g||; `curvature`: ||d|| / mu, about ||H g|| / ||g||."""
        return self._facts


def _at(weights: Weights, shift: list[Tensor] | None, evaluate: Callable[[], Gradients]) -> Gradients:
    if shift is None:
        return evaluate()
    with weights.perturbed(shift):
        return evaluate()
