"""Plain supervised training: what a benign user or a relearning attacker does."""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor

from oubliette.train.objective import BaseObjective
from oubliette.train.roles import Draw, Role

__all__ = ["FineTune", "SupervisedData"]


class SupervisedData(Protocol):
    """Items that know their own loss: denoising for pictures, next token for text."""

    def draw(self, rng: torch.Generator, count: int) -> Any:
        """A batch of `count` items, with all the randomness its loss needs."""

    def loss(self, model: Any, batch: Any) -> Tensor:
        """The model's scalar loss on a batch that `draw` gave."""


class FineTune(BaseObjective):
    """Minimise the data's own loss, as the single retain role."""

    def setup(self, model: Any, data: SupervisedData, weights: Any, seed: int) -> None:
        """Take hold of model and data."""
        self._model, self._data = model, data

    def roles(self, step: int) -> dict[str, Role]:
        """One role, always."""
        return {"fit": Role("retain")}

    def draw(self, step: int, rng: torch.Generator, batch: int) -> Draw:
        """One batch of the data."""
        return Draw(batch=self._data.draw(rng, batch))

    def loss(self, role: str, draw: Draw) -> Tensor:
        """The data's loss."""
        return self._data.loss(self._model, draw["batch"])
