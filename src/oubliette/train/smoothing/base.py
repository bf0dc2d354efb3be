"""What the loop needs to know of a smoother, and what a smoother may ask of the loop."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, Protocol

from torch import Tensor

from oubliette.train.roles import Role
from oubliette.train.weights import Weights

__all__ = ["GradientAt", "NoSmoother", "Passes", "Smoother"]


class GradientAt(Protocol):
    """A role's derivatives at the weights as they stand: accumulated, averaged over processes."""

    @property
    def inner(self) -> Mapping[str, Role]:
        """The step's inner roles, which may be evaluated by name and are handed to no surgery."""

    def fresh(self, number: int = 1) -> GradientAt:
        """The same on a further draw of the step, numbered from 1: other items, other noise.

        It is drawn from (seed, step, number) when it is first asked for, by the rules of the step's own: ask
        while the weights are as they stand. Its losses are not logged.
        """

    def __call__(self, role: str) -> list[Tensor]:
        """The gradient, one tensor per parameter, in fp32 (fp64 for fp64 weights): one pass of each kind."""

    def look(self, role: str) -> None:
        """A forward pass alone, for a smoother that takes no gradient at the weights as they stand.

        The first evaluation of a role is the loss that is logged and the prediction that roles share.
        """

    def times_hessian(self, role: str, direction: list[Tensor]) -> list[Tensor]:
        """The Hessian of the role's loss times `direction` (one tensor per parameter), by double backward."""


class Passes(NamedTuple):
    """What a step takes for each forget role beyond one forward and one backward pass.

    A backward pass through a backward pass counts as two, though it costs more: with its forward pass, about
    what three plain evaluations do. `retain_forwards` and `retain_backwards` are the same for each retain
    role, `inner` how often an inner role's gradient is taken, `draws` how many further draws the step has.
    """

    forwards: int = 0
    backwards: int = 0
    retain_forwards: int = 0
    retain_backwards: int = 0
    inner: int = 0
    draws: int = 0


class Smoother(Protocol):
    """Gathers the gradients of one step; each call of `at` sees the same draws, of `at.fresh(k)` others."""

    @property
    def extra_passes(self) -> Passes:
        """What it takes beyond one evaluation of each role, for an estimate of the cost."""

    def begin(self, step: int, steps: int, seed: int) -> None:
        """Called before each step: its number from 0, how many the run is to have, and the run's seed.

        What is drawn at random is drawn from (seed, step) alone, or a resumed run ends elsewhere. UserError
        where the settings do not fit a run of so many steps.
        """

    def check(self, roles: Mapping[str, Role]) -> None:
        """UserError where it would have nothing to do in a run whose steps have these roles, or must not."""

    def gradients(
        self, at: GradientAt, weights: Weights, roles: Mapping[str, Role]
    ) -> dict[str, list[Tensor]]:
        """The gradient of each role, wherever this smoother takes it; leaves the weights' bits alone.

        Called again for the same step where 16-bit gradients overflowed. Each role is first evaluated, or
        looked at, at the weights as they stand.
        """

    def move(self) -> list[Tensor] | None:
        """By what the weights are moved for good, before the update is added: one tensor per parameter, in
        fp32; None where they are not. Of the last call of `gradients`.
        """

    def after_step(self, weights: Weights, step: int) -> None:
        """Called after each update."""

    def finish(self, weights: Weights) -> None:
        """Called once, after the last update."""

    def facts(self) -> dict[str, float]:
        """Numbers about the last step for the log."""

    def state(self) -> dict[str, Tensor]:
        """Flat tensors that resuming needs."""

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Take back what `state` gave."""


class NoSmoother:
    """Every gradient at the weights as they stand."""

    @property
    def extra_passes(self) -> Passes:
        """None."""
        return Passes()

    def begin(self, step: int, steps: int, seed: int) -> None:
        """Nothing."""

    def check(self, roles: Mapping[str, Role]) -> None:
        """Any will do."""

    def gradients(
        self, at: GradientAt, weights: Weights, roles: Mapping[str, Role]
    ) -> dict[str, list[Tensor]]:
        """One evaluation of each role."""
        return {name: at(name) for name in roles}

    def move(self) -> list[Tensor] | None:
        """By nothing."""
        return None

    def after_step(self, weights: Weights, step: int) -> None:
        """Nothing."""

    def finish(self, weights: Weights) -> None:
        """Nothing."""

    def facts(self) -> dict[str, float]:
        """Nothing."""
        return {}

    def state(self) -> dict[str, Tensor]:
        """Nothing."""
        return {}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Accept an empty state only."""
        if state:
            raise ValueError(f"{type(self).__name__} keeps no state, found {sorted(state)}")
