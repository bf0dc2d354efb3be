"""Forgetting that gives way to what is retained."""

from __future__ import annotations

from typing import ClassVar, Literal

from oubliette.train.surgery.conflict import ConflictSurgery

__all__ = ["Project"]


class Project(ConflictSurgery):
    """Take the forget gradient off its conflict with the retain gradient, then add the latter, weighted.

    Where <f, r> < 0: f <- f - strength * <f, r> / ||r||^2 * r (PCGrad, arXiv 2001.06782, one-sided; the
    textbook form of DoCo's concept-preserving gradient, arXiv 2405.15304). `per="tensor"` decides for each
    tensor alone, `per="all"` for all as one vector. The retain roles' weights say how much of r is added
    afterwards; with weight 0, the retain gradient is a constraint only.
    """

    protected: ClassVar[Literal["forget", "retain"]] = "retain"

    def __init__(self, strength: float = 1.0, per: Literal["tensor", "all"] = "tensor") -> None:
        super().__init__(strength, per)
