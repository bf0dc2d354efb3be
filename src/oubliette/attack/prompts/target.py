"""The model under attack as the attacks see it: prompts and seeds in, whether the concept shows out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from oubliette.attack.types import Hits, How

__all__ = ["Draw", "Target"]

Draw = Callable[[Any, Sequence[str], Sequence[int]], np.ndarray]
"""Draws with a model: (model, prompts, seeds) to uint8 (n, H, W, 3); a caller's picture cache, say."""


class Target:
    """Draws prompts and has them judged."""

    def __init__(self, model: Any, hits: Hits, how: How, draw: Draw | None = None) -> None:
        self.model = model
        self.how = how
        self._hits = hits
        self._draw = draw

    def draw(self, prompts: Sequence[str], seeds: Sequence[int], model: Any = None) -> np.ndarray:
        """Pictures uint8 (n, H, W, 3), by the model under attack unless another one is named."""
        model = self.model if model is None else model
        if self._draw is not None:
            return self._draw(model, prompts, seeds)
        how = self.how
        pictures: np.ndarray = model.draw(
            prompts, seeds, steps=how.steps, guidance=how.guidance, batch=how.batch
        )
        return pictures

    def shows(self, prompts: Sequence[str], seeds: Sequence[int]) -> np.ndarray:
        """Whether the concept is in each prompt's picture: bool (n,).

        Raises ValueError where the judge's answer has another shape.
        """
        if not prompts:
            return np.zeros(0, dtype=bool)
        answer = np.asarray(self._hits(self.draw(prompts, seeds)))
        if answer.shape != (len(prompts),):
            raise ValueError(
                f"a judge gives one answer a picture: expected {len(prompts)}, found {answer.shape}"
            )
        return answer.astype(bool)
