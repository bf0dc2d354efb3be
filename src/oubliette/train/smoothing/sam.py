"""The forget gradient at the top of the nearby slope."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from oubliette.train.roles import Role
from oubliette.train.smoothing.base import GradientAt, NoSmoother, Passes
from oubliette.train.smoothing.side import at_least_zero, forget_roles
from oubliette.train.weights import Weights

__all__ = ["Sam"]


class Sam(NoSmoother):
    """Sharpness-aware minimisation of the forget losses: their gradient at w + rho * g / ||g||_2.

    g is the weighted forget gradient at w and its norm is taken over all trained tensors together; retain
    gradients are taken at w (Unlearn-Smooth, arXiv 2502.05374, with p = 2). Of adapters, w is the product
    (`train.adapters`), so that rho means the same for every scope and rank. One more evaluation of each
    forget role a step; rho = 0 is the plain gradient, bit for bit.
    """

    def __init__(self, rho: float = 0.01) -> None:
        at_least_zero("sam", rho=rho)
        self.rho = rho
        self._facts: dict[str, float] = {}

    @property
    def extra_passes(self) -> Passes:
        """One of each."""
        return Passes(1, 1) if self.rho else Passes()

    def gradients(
        self, at: GradientAt, weights: Weights, roles: Mapping[str, Role]
    ) -> dict[str, list[Tensor]]:
        """Forget roles at the perturbed weights, retain roles at the weights as they stand."""
        forget = forget_roles(roles)
        if not forget or self.rho == 0:
            return super().gradients(at, weights, roles)
        # Retain roles are evaluated here, in their place among the roles, before the weights are perturbed.
        found = {name: at(name) for name in roles}
        ascent = found.pop(forget[0])
        if roles[forget[0]].weight != 1:
            torch._foreach_mul_(ascent, roles[forget[0]].weight)
        for name in forget[1:]:
            torch._foreach_add_(ascent, found.pop(name), alpha=roles[name].weight)
        with weights.uphill(ascent, self.rho) as norm:
            self._facts = {"ascent_norm": norm}
            del ascent
            for name in forget:
                found[name] = at(name)
        return {name: found[name] for name in roles}

    def facts(self) -> dict[str, float]:
        """`ascent_norm`: the norm of the forget gradient that set the direction."""
        return self._facts
