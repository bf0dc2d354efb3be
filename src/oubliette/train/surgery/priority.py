"""Retaining that gives way to forgetting."""

from __future__ import annotations

from typing import ClassVar, Literal

from oubliette.train.roles import Role
from oubliette.train.surgery.conflict import ConflictSurgery

__all__ = ["Priority"]


class Priority(ConflictSurgery):
    """Add the retain gradient, weighted, less its component along the forget gradient.

    Forgetting has priority: r <- r - strength * <r, f> / ||f||^2 * f, then f + weight * r (BLUR, arXiv
    2506.08164), over all tensors as one vector unless `per="tensor"`. As published, the component goes
    whatever its sign: where the two agree, retaining does not hasten forgetting either. `always=False` takes
    it off only where <r, f> < 0, which is `project` with the two sides in each other's place.
    """

    protected: ClassVar[Literal["forget", "retain"]] = "forget"

    def __init__(
        self, strength: float = 1.0, per: Literal["tensor", "all"] = "all", always: bool = True
    ) -> None:
        super().__init__(strength, per, always)

    def needs(self, role: Role) -> bool:
        """A retain role of weight 0 adds nothing; the forget gradient is the direction that is protected."""
        return role.kind == "forget" or role.weight != 0
