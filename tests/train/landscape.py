"""Losses whose every derivative is known, seen through the gradients that the loop hands to a smoother."""

from __future__ import annotations

from contextlib import nullcontext

import torch
from torch import Tensor, nn

from oubliette.train.gradients import StepGradients
from oubliette.train.objective import BaseObjective
from oubliette.train.processes import Processes
from oubliette.train.roles import Draw, Role
from oubliette.train.weights import Weights

ROLES = {
    "retain": Role("retain"),
    "forget": Role("forget", weight=2.0),
    "further": Role("forget", weight=0.5),
}
SHAPES = ((2, 2), (3,))


class Quadratic(BaseObjective):
    """L_k(w) = 1/2 w^T A_k w + b_k^T w over two tensors of 4 and 3 elements, in fp64."""

    def __init__(self, seed: int = 0) -> None:
        rng = torch.Generator().manual_seed(seed)
        size = sum(torch.Size(shape).numel() for shape in SHAPES)
        self.curve: dict[str, Tensor] = {}
        self.slope: dict[str, Tensor] = {}
        for role in ROLES:
            square = torch.randn(size, size, generator=rng, dtype=torch.float64)
            self.curve[role] = square + square.T
            self.slope[role] = torch.randn(size, generator=rng, dtype=torch.float64)
        start = torch.randn(size, generator=rng, dtype=torch.float64)
        self.named = {
            name: nn.Parameter(part.view(shape).clone())
            for name, part, shape in zip("ab", start.split([4, 3]), SHAPES, strict=True)
        }

    def loss(self, role: str, draw: Draw) -> Tensor:
        w = torch.cat([parameter.flatten() for parameter in self.named.values()])
        return 0.5 * w @ self.curve[role] @ w + self.slope[role] @ w

    def side(self) -> tuple[Tensor, Tensor]:
        """A and b of the weighted forget loss."""
        forget = [(name, role.weight) for name, role in ROLES.items() if role.kind == "forget"]
        return (
            sum(weight * self.curve[name] for name, weight in forget),
            sum(weight * self.slope[name] for name, weight in forget),
        )


class Tilted(Quadratic):
    """L_k(w) + t^T w with a slope t that the draw brings, and what an attacker would minimise."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__(seed)
        rng = torch.Generator().manual_seed(seed + 1)
        size = len(self.slope["forget"])
        self.curve["relearn"] = torch.eye(size, dtype=torch.float64)
        self.slope["relearn"] = torch.randn(size, generator=rng, dtype=torch.float64)
        self.tilts = torch.randn(4, size, generator=rng, dtype=torch.float64)

    def loss(self, role: str, draw: Draw) -> Tensor:
        w = torch.cat([parameter.flatten() for parameter in self.named.values()])
        return super().loss(role, draw) + self.tilts[draw.get("tilt", 0)] @ w

    def gradient(self, role: str, w: Tensor, tilt: int = 0) -> Tensor:
        """The closed form."""
        return self.curve[role] @ w + self.slope[role] + self.tilts[tilt]


INNER = {"relearn": Role("inner", weight=3.0)}


def gradients_of(objective: BaseObjective, weights: Weights, draws: list[Draw] | None = None) -> object:
    """What the loop gives a smoother; the k-th further draw has tilt k."""
    step = StepGradients(
        objective,
        draws or [Draw()],
        Processes(torch.device("cpu")),
        nullcontext,
        1.0,
        INNER if isinstance(objective, Tilted) else {},
        lambda number: [Draw(tilt=number)],
    )
    return step.at(weights.parameters)


def flat(tensors: list[Tensor]) -> Tensor:
    return torch.cat([tensor.detach().flatten() for tensor in tensors])


def forget_side(found: dict[str, list[Tensor]]) -> Tensor:
    """The weighted sum of the forget roles' gradients."""
    return sum(role.weight * flat(found[name]) for name, role in ROLES.items() if role.kind == "forget")
