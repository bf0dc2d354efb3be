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
    never the model's. `clip` is the greatest L2 norm of the role's gradient over all its tensors.
    """

    kind: Literal["forget", "retain", "helper"]
    weight: float = 1.0
    clip: float | None = None
    parameters: tuple[nn.Parameter, ...] = ()
    optimizer: torch.optim.Optimizer | None = None

    def __post_init__(self) -> None:
        if self.kind == "helper" and (not self.parameters or self.optimizer is None):
            raise ValueError("a helper role needs its parameters and its optimizer")
        if self.kind != "helper" and (self.parameters or self.optimizer is not None):
            raise ValueError(
                f"a {self.kind} role moves the model's weights: only a helper has its own parameters"
            )


class Draw(dict[str, Any]):
    """All of one micro-batch's randomness and cached targets by name, drawn once and reused by every role.

    `cache` is for detached predictions that roles of one step share. Losses are evaluated in the order in
    which the objective lists its roles, helpers last, and a smoother's first call of a role is always at the
    weights as they stand: write with `cache.setdefault` to keep the prediction made there.
    """

    def __init__(self, *args: Any, **entries: Any) -> None:
        super().__init__(*args, **entries)
        self.cache: dict[str, Any] = {}
