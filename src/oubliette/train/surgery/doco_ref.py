"""DoCo's surgery as its code has it."""

from __future__ import annotations

from typing import ClassVar, Literal

from torch import Tensor

from oubliette.train.surgery.conflict import ConflictSurgery

__all__ = ["DocoRef"]


class DocoRef(ConflictSurgery):
    """DoCo's surgery as released, for reproduction: it over-corrects wherever ||f|| < 1.

    Per tensor, with v = r / ||r|| and c = cos(f, r) < 0: f <- f - strength * c * v. A projection would
    subtract ||f|| * c * v, so |c| (1 - ||f||) of v is left over: an implicit retain step. The retain
    gradient is never added, whatever its weight (code of arXiv 2405.15304).
    """

    protected: ClassVar[Literal["forget", "retain"]] = "retain"

    def __init__(self, strength: float = 1.0) -> None:
        super().__init__(strength, "tensor")

    def _coefficients(self, inner: Tensor, cosine: Tensor, kept_norm: Tensor) -> Tensor:
        return cosine / kept_norm

    def _finished(self, moved: list[Tensor], kept: list[Tensor], total: float) -> list[Tensor]:
        return moved
