"""What the projections share: two sides, one of them taken off its conflict with the other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
from torch import Tensor

from oubliette.core.errors import UserError
from oubliette.train.roles import Role
from oubliette.train.surgery.base import BaseSurgery
from oubliette.train.surgery.products import inner_products, weighted_sum
from oubliette.train.surgery.sum import Sum

__all__ = ["ConflictSurgery"]


class ConflictSurgery(BaseSurgery):
    """The `protected` side's gradient stays as it is; the other's is turned away from it where they conflict.

    A subclass says by how much, and what is added afterwards. Raises UserError for a negative strength.
    """

    protected: ClassVar[Literal["forget", "retain"]]

    def __init__(self, strength: float, per: Literal["tensor", "all"], always: bool = False) -> None:
        if strength < 0:
            raise UserError(f"surgery strength must be at least 0, found {strength}")
        self.strength = strength
        self.per = per
        self.always = always
        self._facts: dict[str, float] = {}

    def facts(self) -> dict[str, float]:
        """`conflict`: the share of tensors (or 0/1 for `all`) with a negative cosine; `cosine`: its mean."""
        return self._facts

    def combine(self, grads: dict[str, list[Tensor]], roles: Mapping[str, Role]) -> list[Tensor]:
        """The one side off its conflict with the protected one; the plain sum where either is absent."""
        self._facts = {}
        sides: dict[str, dict[str, list[Tensor]]] = {"forget": {}, "retain": {}}
        for name, gradient in grads.items():
            sides[roles[name].kind][name] = gradient
        if not sides["forget"] or not sides["retain"]:
            return Sum().combine(grads, roles)
        fixed = sides.pop(self.protected)
        ((_, free),) = sides.items()
        moved = weighted_sum(free, {name: roles[name].weight for name in free})
        total = sum(roles[name].weight for name in fixed)
        # The protected side points where its weighted sum does; where all weights are 0, where the mean does.
        shares = {name: roles[name].weight / total if total else 1 / len(fixed) for name in fixed}
        kept = weighted_sum(fixed, shares)
        inner, moved_norm, kept_norm = inner_products(moved, kept, self.per)
        cosine = inner / (moved_norm * kept_norm).clamp_min(torch.finfo(inner.dtype).tiny)
        self._facts = {"conflict": float((inner < 0).double().mean()), "cosine": float(cosine.mean())}
        turned = (inner < 0) | torch.full_like(inner, self.always, dtype=torch.bool)
        coefficients = torch.where(
            turned & (kept_norm > 0), self._coefficients(inner, cosine, kept_norm), 0.0
        )
        for index, coefficient in enumerate(coefficients.tolist()):
            if coefficient:
                moved[index].add_(kept[index], alpha=-self.strength * coefficient)
        return self._finished(moved, kept, total)

    def _coefficients(self, inner: Tensor, cosine: Tensor, kept_norm: Tensor) -> Tensor:
        """How much of the protected gradient is subtracted, for each tensor: the projection's share."""
        return inner / kept_norm / kept_norm

    def _finished(self, moved: list[Tensor], kept: list[Tensor], total: float) -> list[Tensor]:
        """The protected gradient added, weighted: with weight 0, it was a constraint only."""
        if total:
            torch._foreach_add_(moved, kept, alpha=total)
        return moved
