"""The policy without a choice: each request's own recipe."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from oubliette.erase.policy import Asked, Decision, StatelessPolicy

if TYPE_CHECKING:
    from oubliette.backends.base import Backend

__all__ = ["Fixed"]


class Fixed(StatelessPolicy):
    """Every request is run as its recipe says, whatever the model is like by then."""

    name: ClassVar[str] = "fixed"

    def decide(self, model: Backend, asked: Asked) -> Decision:
        """The recipe."""
        return Decision(asked.recipe)
