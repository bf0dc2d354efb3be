"""A model as it was before an erasure, without a second copy of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from oubliette.erase.result import Reversible

__all__ = ["OriginalView"]


class OriginalView:
    """A model as it was before an erasure, over the same network: originals are swapped in while it draws.

    No second copy of the weights; every bit of the erased model is back when a call returns. Whatever else is
    asked of it is the model's own.
    """

    def __init__(self, model: Any, weights: Reversible) -> None:
        self._model, self._weights = model, weights

    def fingerprint(self) -> str:
        """The hash of the weights before the erasure."""
        with self._weights.originals():
            return str(self._model.fingerprint())

    def draw(self, prompts: Sequence[str], seeds: Sequence[int], **how: Any) -> Any:
        """Pictures as the model drew them before, uint8 (n, H, W, 3)."""
        with self._weights.originals():
            return self._model.draw(prompts, seeds, **how)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)
