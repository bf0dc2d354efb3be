"""Forgetting as a constraint that is met at a given pace, with no more of its gradient than that takes."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from torch import Tensor

from oubliette.core.errors import UserError
from oubliette.train.roles import Role
from oubliette.train.surgery.conflict import ConflictSurgery

__all__ = ["Bome"]


class Bome(ConflictSurgery):
    """u = r + lambda f with lambda = max(eta - <r, f> / ||f||^2, 0): the least with <u, f> >= eta ||f||^2.

    f is the forget gradient, the inner problem's of a bilevel one, r the weighted retain gradient, both over
    all tensors as one vector. Where the two conflict r loses what stands against f, and eta f is added; where
    r forgets fast enough by itself nothing is. Liu et al., BOME!, NeurIPS 2022, arXiv 2209.08709. The weights
    of forget roles say only how several are mixed. UserError for an eta that is not above 0.
    """

    protected: ClassVar[Literal["forget", "retain"]] = "forget"

    def __init__(self, eta: float = 0.5) -> None:
        super().__init__(1.0, "all", always=True)
        if eta <= 0:
            raise UserError(f"surgery 'bome': eta must be above 0, found {eta:g}")
        self.eta = eta

    def needs(self, role: Role) -> bool:
        """A retain role of weight 0 adds nothing."""
        return role.kind == "forget" or role.weight != 0

    def _coefficients(self, inner: Tensor, cosine: Tensor, kept_norm: Tensor) -> Tensor:
        return (inner / kept_norm / kept_norm).clamp_max(self.eta)

    def _finished(self, moved: list[Tensor], kept: list[Tensor], total: float) -> list[Tensor]:
        torch._foreach_add_(moved, kept, alpha=self.eta)
        return moved
