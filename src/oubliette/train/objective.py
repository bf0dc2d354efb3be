"""What the loop needs to know of an eraser, an attack or a simulated user."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Protocol, runtime_checkable

import torch
from torch import Tensor

from oubliette.train.cost import StepCost
from oubliette.train.roles import Draw, Role

if TYPE_CHECKING:
    from oubliette.backends.base import Backend
    from oubliette.train.weights import Weights

__all__ = ["BaseObjective", "Objective"]


@runtime_checkable
class Objective(Protocol):
    """Losses in roles over one step's shared randomness; steps count from 0."""

    def setup(self, model: Backend, data: Any, weights: Weights, seed: int) -> None:
        """Take hold of model and data, compute once what does not change; the weights are the originals."""

    def roles(self, step: int) -> dict[str, Role]:
        """The roles that take part in this step (a warm-up lists fewer), in order of evaluation."""

    def draw(self, step: int, rng: torch.Generator, batch: int) -> Draw:
        """Draw one micro-batch of `batch` items: every random number comes from `rng` (a CPU generator).

        A role with a factor of its own has `Role.items(batch)`. Called again for the same step, with another
        generator, where a smoother asks for further draws.
        """

    def before(self, step: int, draw: Draw) -> None:
        """An input-space adversary's turn, before any loss; may change `draw`, never the weights."""

    def loss(self, role: str, draw: Draw) -> Tensor:
        """The role's scalar loss on a graph of its own, at whatever weights the model holds now."""

    def state(self) -> dict[str, Tensor]:
        """Flat tensors that resuming needs beside the weights: helper networks and their optimisers."""

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Take back what `state` gave."""

    def report(self) -> dict[str, float]:
        """Further numbers of the last step for the log, such as a discriminator's accuracy."""


class BaseObjective:
    """Defaults for what most objectives do not need: no adversary, no state, nothing further to report.

    An objective with a helper network gives its tensors in `state`, and its optimiser's through
    `oubliette.train.optimizer.optimizer_state`, or a resumed run will not end in the same weights. `budget`
    names the numbers of a recipe that are meant for one concept, and grow with the number of concepts;
    `inner` its inner roles, so that a smoother which reads some can be refused before the work.
    """

    budget: ClassVar[tuple[str, ...]] = ("train.steps", "train.warm_up")
    inner: ClassVar[tuple[str, ...]] = ()

    @classmethod
    def step_cost(cls, options: Any) -> StepCost:
        """A forget pass and its target, and no more."""
        return StepCost()

    def before(self, step: int, draw: Draw) -> None:
        """Do nothing."""

    def state(self) -> dict[str, Tensor]:
        """Nothing beside the trained weights."""
        return {}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Accept an empty state only."""
        if state:
            raise ValueError(f"{type(self).__name__} keeps no state, found {sorted(state)}")

    def report(self) -> dict[str, float]:
        """Nothing."""
        return {}
