"""The parts a loss plays in one update, and the randomness they share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn

__all__ = ["Draw", "Role"]


@dataclass(frozen=True)
class Role:
    """One of an objective's losses and what becomes of its gradient.

    `forget` and `retain` gradients are taken with respect to the trained weights and handed to the surgery
    with their `weight`; a `helper` (a discriminator) moves its own `parameters` with its own `optimizer` and
    never the model's. An `inner` role is what somebody else would minimise, as an attacker who relearns: a
    smoother may ask for its gradient, a surgery never sees it, and it costs nothing unless it is asked for.
    `clip` is the greatest L2 norm of the role's gradient over all its tensors; `batch` is how many items of
    its own the role has for each of the step's (1:3 of forget to retain is 3 for the latter).
    """

    kind: Literal["forget", "retain", "helper", "inner"]
    weight: float = 1.0
    clip: float | None = None
    batch: float = 1.0
    parameters: tuple[nn.Parameter, ...] = ()
    optimizer: torch.optim.Optimizer | None = None

    def __post_init__(self) -> None:
        if self.kind == "helper" and (not self.parameters or self.optimizer is None):
            raise ValueError("a helper role needs its parameters and its optimizer")
        if self.kind != "helper" and (self.parameters or self.optimizer is not None):
            raise ValueError(
                f"a {self.kind} role is of the model's weights: only a helper has its own parameters"
            )
        if not self.batch > 0:
            raise ValueError(f"a role's batch is a factor above 0, found {self.batch}")

    @property
    def moves(self) -> bool:
        """Whether its gradient goes to the surgery."""
        return self.kind in ("forget", "retain")

    def items(self, batch: int) -> int:
        """How many items the role has in a micro-batch of `batch`: at least one."""
        return max(1, round(self.batch * batch))


class Draw(dict[str, Any]):
    """All of one micro-batch's randomness and cached targets by name, drawn once and reused by every role.

    `cache` is for detached predictions that roles of one step share. Losses are evaluated in the order in
    which the objective lists its roles, helpers last, and a smoother's first call of a role is always at the
    weights as they stand: write with `cache.setdefault` to keep the prediction made there.
    """

    def __init__(self, *args: Any, **entries: Any) -> None:
        super().__init__(*args, **entries)
        self.cache: dict[str, Any] = {}
