"""The plain sum."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from oubliette.train.roles import Role
from oubliette.train.surgery.base import BaseSurgery
from oubliette.train.surgery.products import weighted_sum

__all__ = ["Sum"]


class Sum(BaseSurgery):
    """The weighted sum of all gradients: what minimising the weighted sum of the losses does."""

    def needs(self, role: Role) -> bool:
        """A role of weight 0 has no part."""
        return role.weight != 0

    def combine(self, grads: dict[str, list[Tensor]], roles: Mapping[str, Role]) -> list[Tensor]:
        """sum_i weight_i * gradient_i."""
        return weighted_sum(grads, {name: roles[name].weight for name in grads})
