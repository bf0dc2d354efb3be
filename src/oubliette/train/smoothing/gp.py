"""The forget loss with its gradient's norm as a penalty."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor

from oubliette.train.gradients import global_norm
from oubliette.train.roles import Role
from oubliette.train.smoothing.base import GradientAt, NoSmoother, Passes
from oubliette.train.smoothing.side import above_zero, at_least_zero, forget_roles, forget_side
from oubliette.train.weights import Weights

__all__ = ["Gp"]


class Gp(NoSmoother):
    """Gradient penalty: the gradient of L + rho * ||grad L||_2 for the weighted forget loss L.

    That is g + rho * H g / ||g||, the norm over all trained tensors together; retain gradients are plain
    (Unlearn-Smooth, arXiv 2502.05374; rho 0.01 is what its code uses whatever is asked for, and there the
    penalty is a number without a gradient, so that it does nothing). rho = 0 is the plain gradient, bit for
    bit.

    `exact` takes H g / ||g|| by double backward, which holds the graph of the first backward pass too and
    needs attention in its plain form (chosen here). It sees nothing of kinks, as a LeakyReLU has.
    `finite_diff` takes (grad L(w + epsilon g / ||g||) - g) / epsilon, one more plain evaluation, and is `sam`
    where epsilon = rho; its error is of the order of epsilon. On weights of 16 bits so short a step is mostly
    rounded away: take `exact` there.
    """

    def __init__(
        self,
        rho: float = 0.01,
        variant: Literal["exact", "finite_diff"] = "exact",
        epsilon: float = 0.01,
    ) -> None:
        at_least_zero("gp", rho=rho)
        above_zero("gp", epsilon=epsilon)
        self.rho, self.variant, self.epsilon = rho, variant, epsilon
        self._facts: dict[str, float] = {}

    @property
    def extra_passes(self) -> Passes:
        """A forward pass with a double backward, or with a single one."""
        if self.rho == 0:
            return Passes()
        return Passes(1, 2) if self.variant == "exact" else Passes(1, 1)

    def gradients(
        self, at: GradientAt, weights: Weights, roles: Mapping[str, Role]
    ) -> dict[str, list[Tensor]]:
        """Forget roles with the penalty's gradient, retain roles plain."""
        found = super().gradients(at, weights, roles)
        forget = forget_roles(roles)
        if not forget or self.rho == 0:
            return found
        direction = forget_side(found, forget, roles)
        norm = float(global_norm(direction))
        self._facts = {"gradient_norm": norm}
        if not 0 < norm < math.inf:
            return found  # no slope, no direction; what is not finite is reported by the loop
        torch._foreach_div_(direction, norm)
        if self.variant == "exact":
            for name in forget:
                torch._foreach_add_(found[name], at.times_hessian(name, direction), alpha=self.rho)
            return found
        torch._foreach_mul_(direction, self.epsilon)
        with weights.perturbed(direction):
            del direction
            for name in forget:
                change = at(name)
                torch._foreach_sub_(change, found[name])
                torch._foreach_add_(found[name], change, alpha=self.rho / self.epsilon)
        return found

    def facts(self) -> dict[str, float]:
        """`gradient_norm`: the norm that is penalised."""
        return self._facts
