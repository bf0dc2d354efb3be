"""What a weight term remembers of earlier tasks: weights, and how much each of them mattered."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from oubliette.continual.bregman import GENERATORS, divergence, quadratic
from oubliette.continual.method import WeightTerm
from oubliette.train.fisher import check_fisher

__all__ = ["WeightMemory"]

Named = Mapping[str, Tensor]


@dataclass(frozen=True)
class _Anchor:
    """The weights after a task, and the metric around them (none for Gaussians)."""

    weights: dict[str, Tensor]
    fisher: dict[str, Tensor]


class WeightMemory:
    """sum over anchors of D_Psi(theta, theta_old); empty before the first task's end."""

    def __init__(self, term: WeightTerm) -> None:
        self.term = term
        self._anchors: list[_Anchor] = []

    def __bool__(self) -> bool:
        return bool(self._anchors)

    @property
    def needs_fisher(self) -> bool:
        """Whether `take` is given one."""
        return self.term.generator == "quadratic"

    @torch.no_grad()
    def take(self, weights: Named, fisher: Named | None = None) -> None:
        """Remember these weights, and the task's Fisher of the same names; UserError for another model's."""
        held = {name: tensor.detach().clone() for name, tensor in weights.items()}
        metric: dict[str, Tensor] = {}
        if self.needs_fisher:
            for name, tensor in held.items():
                found = (fisher or {}).get(name)
                check_fisher(name, found, tensor, f"weight term '{self.term.generator}'")
                assert found is not None
                metric[name] = found.detach().clone()
            if self.term.keep == "last" and self._anchors:
                before = self._anchors[-1].fisher
                metric = {name: self.term.decay * before[name] + part for name, part in metric.items()}
        kept = self._anchors if self.term.keep == "all" else []
        self._anchors = [*kept, _Anchor(held, metric)]

    def divergence(self, parameters: Mapping[str, nn.Parameter]) -> Tensor:
        """The term without beta, a scalar with a graph."""
        parts = []
        for anchor in self._anchors:
            for name, before in anchor.weights.items():
                parameter = parameters[name]
                if self.needs_fisher:
                    metric = (anchor.fisher[name] + self.term.prior).flatten()
                    kind, now, then = quadratic(metric), parameter.flatten(), before.flatten()
                    parts.append(divergence(kind, now, then))
                elif (other := _log_std_of(name)) is not None:
                    now = torch.stack([parameter, parameters[other]], dim=-1)
                    then = torch.stack([before, anchor.weights[other]], dim=-1)
                    # KL(q || q_old) is the log-partition's divergence from the old one's parameters.
                    parts.append(divergence(GENERATORS["gaussian"], then, now).sum())
        return torch.stack(parts).sum()

    def state(self) -> dict[str, Tensor]:
        """Every anchor."""
        return {
            f"{number}.{what}.{name}": tensor
            for number, anchor in enumerate(self._anchors)
            for what, named in (("weights", anchor.weights), ("fisher", anchor.fisher))
            for name, tensor in named.items()
        }

    def load_state(self, state: Named) -> None:
        """Take back what `state` gave."""
        count = 1 + max((int(key.partition(".")[0]) for key in state), default=-1)
        self._anchors = [
            _Anchor(_part(state, f"{n}.weights."), _part(state, f"{n}.fisher.")) for n in range(count)
        ]


def _part(state: Named, prefix: str) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): t.clone() for key, t in state.items() if key.startswith(prefix)}


def _log_std_of(name: str) -> str | None:
    """The tensor of a mean's log std (`oubliette.backends.classifier.GaussianNet`); None for that itself."""
    head = "net.mean."
    return "net.log_std." + name.removeprefix(head).replace(".", "/") if name.startswith(head) else None
