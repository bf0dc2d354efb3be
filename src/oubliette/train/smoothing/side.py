"""The forget side of a step: which roles it has, and the gradient of their weighted loss."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from oubliette.core.errors import UserError
from oubliette.train.roles import Role

__all__ = ["above_zero", "at_least_zero", "forget_roles", "forget_side"]


def forget_roles(roles: Mapping[str, Role]) -> list[str]:
    """Names of the forget roles, in order of evaluation."""
    return [name for name, role in roles.items() if role.kind == "forget"]


def forget_side(
    grads: Mapping[str, list[Tensor]], names: Iterable[str], roles: Mapping[str, Role]
) -> list[Tensor]:
    """sum_i weight_i * gradient_i over the forget roles, in new memory."""
    first, *others = names
    total = torch._foreach_mul(grads[first], roles[first].weight)
    for name in others:
        torch._foreach_add_(total, grads[name], alpha=roles[name].weight)
    return list(total)


def at_least_zero(smoother: str, **options: float) -> None:
    """UserError for an option below 0."""
    for name, value in options.items():
        if value < 0:
            raise UserError(f"{smoother}: {name} must be at least 0, found {value}")


def above_zero(smoother: str, **options: float) -> None:
    """UserError for an option that is not above 0."""
    for name, value in options.items():
        if value <= 0:
            raise UserError(f"{smoother}: {name} must be above 0, found {value}")
