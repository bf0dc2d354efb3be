"""Where in weight space a role's gradient is taken."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

import torch
from torch import Tensor

from oubliette.errors import UserError
from oubliette.train.roles import Role
from oubliette.train.weights import Weights

__all__ = ["GradientAt", "NoSmoother", "Sam", "Smoother"]

GradientAt = Callable[[str], list[Tensor]]
"""A role's gradient at the weights as they stand (accumulated, averaged over processes), per parameter."""


class Smoother(Protocol):
    """Gathers the gradients of one step; each call of `at` sees the same draws."""

    def gradients(
        self, at: GradientAt, weights: Weights, roles: Mapping[str, Role]
    ) -> dict[str, list[Tensor]]:
        """The gradient of each role, wherever this smoother takes it; leaves the weights' bits alone."""

    def after_step(self, weights: Weights, step: int) -> None:
        """Called after each update."""

    def finish(self, weights: Weights) -> None:
        """Called once, after the last update."""

    def facts(self) -> dict[str, float]:
        """Numbers about the last step for the log."""


class NoSmoother:
    """Every gradient at the weights as they stand."""

    def gradients(
        self, at: GradientAt, weights: Weights, roles: Mapping[str, Role]
    ) -> dict[str, list[Tensor]]:
        """One evaluation of each role."""
        return {name: at(name) for name in roles}

    def after_step(self, weights: Weights, step: int) -> None:
        """Nothing."""

    def finish(self, weights: Weights) -> None:
        """Nothing."""

    def facts(self) -> dict[str, float]:
        """Nothing."""
        return {}


class Sam(NoSmoother):
    """Sharpness-aware minimisation of the forget losses: their gradient at w + rho * g / ||g||_2.

    g is the weighted forget gradient at w and its norm is taken over all trained tensors together; retain
    gradients are taken at w (Unlearn-Smooth, arXiv 2502.05374, with p = 2). One more evaluation of each
    forget role a step; rho = 0 is the plain gradient, bit for bit.
    """

    def __init__(self, rho: float = 0.01) -> None:
        if rho < 0:
            raise UserError(f"sam: rho must be at least 0, found {rho}")
        self.rho = rho
        self._facts: dict[str, float] = {}

    def gradients(
        self, at: GradientAt, weights: Weights, roles: Mapping[str, Role]
    ) -> dict[str, list[Tensor]]:
        """Forget roles at the perturbed weights, retain roles at the weights as they stand."""
        forget = [name for name, role in roles.items() if role.kind == "forget"]
        if not forget or self.rho == 0:
            return super().gradients(at, weights, roles)
        # Retain roles are evaluated here, in their place among the roles, before the weights are perturbed.
        found = {name: at(name) for name in roles}
        ascent = found.pop(forget[0])
        if roles[forget[0]].weight != 1:
            torch._foreach_mul_(ascent, roles[forget[0]].weight)
        for name in forget[1:]:
            torch._foreach_add_(ascent, found.pop(name), alpha=roles[name].weight)
        norm = float(torch.stack(torch._foreach_norm(ascent)).norm())
        self._facts = {"ascent_norm": norm}
        # A zero gradient has no direction to climb; a non-finite one is reported by the loop, role by role.
        torch._foreach_mul_(ascent, self.rho / norm if norm > 0 else 0.0)
        with weights.perturbed(ascent):
            del ascent
            for name in forget:
                found[name] = at(name)
        return {name: found[name] for name in roles}

    def facts(self) -> dict[str, float]:
        """`ascent_norm`: the norm of the forget gradient that set the direction."""
        return self._facts
