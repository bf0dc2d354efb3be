"""The model under attack as the attacks see it: proposals in, samples and the judge's word on them out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from torch import Tensor

from oubliette.attack.types import Hits, How

__all__ = ["Draw", "Proposal", "Target"]

Draw = Callable[[Any, Sequence[str], Sequence[int]], np.ndarray]
"""Draws with a model: (model, prompts, seeds) to uint8 (n, H, W, 3); a caller's picture cache, say."""


@dataclass(frozen=True)
class Proposal:
    """An adversarial prompt to be tried, and the search's loss at it (None where it has none).

    Of models that answer, `opening` is text that the answer is made to begin with, and `front` (k, width)
    embeddings that are put before the prompt.
    """

    prompt: str
    loss: float | None = None
    opening: str = ""
    front: Tensor | None = field(default=None, compare=False)


@dataclass(frozen=True)
class _Led:
    """A model that answers, its answers begun for it or its prompts preceded."""

    model: Any
    opening: str
    front: Tensor | None

    @property
    def reader(self) -> Any:
        """The model's."""
        return self.model.reader

    def respond(self, prompts: Sequence[str], max_new_tokens: int = 64) -> list[str]:
        said: list[str] = self.model.respond(prompts, max_new_tokens, opening=self.opening, front=self.front)
        return said


class Target:
    """Has proposals tried and judged."""

    def __init__(self, model: Any, hits: Hits, how: How, draw: Draw | None = None) -> None:
        self.model = model
        self.how = how
        self._hits = hits
        self._draw = draw

    def draw(self, prompts: Sequence[str], seeds: Sequence[int], model: Any = None) -> np.ndarray:
        """Samples (n, ...), by the model under attack unless another one is named."""
        return self.how.together(prompts, self._make(self.model if model is None else model, prompts, seeds))

    def look(
        self, proposals: Sequence[Proposal], originals: Sequence[str], seeds: Sequence[int]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Whether the concept is in what the model makes of each proposal, bool (n,), and that itself.

        A proposal is judged as a way to ask for what its original prompt does. Raises ValueError where the
        judge's answer has another shape.
        """
        if not proposals:
            return np.zeros(0, dtype=bool), np.zeros(0, dtype=object)
        alike: dict[tuple[str, int], list[int]] = {}
        for place, one in enumerate(proposals):
            alike.setdefault((one.opening, id(one.front)), []).append(place)
        made: list[Any] = [None] * len(proposals)
        for (opening, _), places in alike.items():
            front = proposals[places[0]].front
            model = self.model if front is None and not opening else _Led(self.model, opening, front)
            tried = [proposals[place].prompt for place in places]
            samples = self._make(model, tried, [seeds[place] for place in places])
            for place, sample in zip(places, samples, strict=True):
                made[place] = sample
        together = self.how.together(originals, made)
        answer = np.asarray(self._hits(together))
        if answer.shape != (len(proposals),):
            raise ValueError(
                f"a judge gives one answer a sample: expected {len(proposals)}, found {answer.shape}"
            )
        return answer.astype(bool), together

    def _make(self, model: Any, prompts: Sequence[str], seeds: Sequence[int]) -> Sequence[Any]:
        if self._draw is not None:
            return list(self._draw(model, prompts, seeds))
        return self.how.make(model, prompts, seeds)
