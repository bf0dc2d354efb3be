"""The policy without a choice: each request's own recipe."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from oubliette.core.validation import StrictModel
from oubliette.erase.policy import Asked, Decision, StatelessPolicy

if TYPE_CHECKING:
    from oubliette.backends.base import Backend

__all__ = ["Fixed"]


class Fixed(StatelessPolicy):
    """Every request is run as its recipe says, whatever the model is like by then."""

    name: ClassVar[str] = "fixed"

    class Options(StrictModel):
        """Which model the objectives take for the original."""

        from_start: bool = Field(
            default=False,
            description="the one before the first request, as FIT's baselines; else the last one",
        )

    def decide(self, model: Backend, asked: Asked) -> Decision:
        """The recipe."""
        return Decision(asked.recipe, from_start=self.options.from_start)
