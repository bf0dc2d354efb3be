"""What the loop needs to know of a surgery."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from torch import Tensor

from oubliette.train.roles import Role

__all__ = ["BaseSurgery", "Surgery"]


class Surgery(Protocol):
    """Combines gradients that were accumulated, averaged over processes and clipped; may overwrite them."""

    def begin(self, step: int, steps: int, seed: int) -> None:
        """Called before each step: its number from 0, how many the run is to have, and the run's seed.

        What is drawn at random is drawn from (seed, step) alone, or a resumed run ends elsewhere.
        """

    def needs(self, role: Role) -> bool:
        """Whether the role's gradient has a part in the update (if not, the loop does not compute it)."""

    def combine(self, grads: dict[str, list[Tensor]], roles: Mapping[str, Role]) -> list[Tensor]:
        """One tensor per trained parameter: the update's direction, in the sense of a gradient."""

    def facts(self) -> dict[str, float]:
        """Numbers about the last combination for the log."""

    def state(self) -> dict[str, Tensor]:
        """Flat tensors that resuming needs."""

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Take back what `state` gave; UserError where a run with this surgery cannot be resumed."""


class BaseSurgery:
    """Defaults for what most surgeries do not need: every role has a part, no randomness, no state."""

    def begin(self, step: int, steps: int, seed: int) -> None:
        """Do nothing."""

    def needs(self, role: Role) -> bool:
        """Always: a role of weight 0 may still be a direction that is protected."""
        return True

    def combine(self, grads: dict[str, list[Tensor]], roles: Mapping[str, Role]) -> list[Tensor]:
        """Left to each surgery."""
        raise TypeError(f"{type(self).__name__} does not say how gradients are combined")

    def facts(self) -> dict[str, float]:
        """Nothing."""
        return {}

    def state(self) -> dict[str, Tensor]:
        """Nothing: each step stands alone."""
        return {}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Accept an empty state only."""
        if state:
            raise ValueError(f"{type(self).__name__} keeps no state, found {sorted(state)}")
