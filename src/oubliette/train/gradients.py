"""The gradients of one step: accumulated over micro-batches, averaged over processes."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager

import torch
from torch import Tensor, nn

from oubliette.errors import UserError
from oubliette.train.objective import Objective
from oubliette.train.processes import Processes
from oubliette.train.roles import Draw

__all__ = ["GradScale", "StepGradients", "as_floats", "clip_", "global_norm", "micro_batch_rng"]


class StepGradients:
    """Evaluates an objective's roles on one step's draws, as often as a smoother asks."""

    def __init__(
        self,
        objective: Objective,
        draws: Sequence[Draw],
        processes: Processes,
        autocast: Callable[[], AbstractContextManager[object]],
        scale: float,
    ) -> None:
        self._objective, self._draws, self._processes = objective, draws, processes
        self._autocast, self._scale = autocast, scale
        self.losses: dict[str, Tensor] = {}
        """Each role's loss the first time it was evaluated: the mean over micro-batches and processes."""

    def at(self, parameters: Sequence[nn.Parameter]) -> Callable[[str], list[Tensor]]:
        """A role's gradient as a function of its name alone: what a smoother is given."""
        return lambda role: self.of(role, parameters)

    def of(self, role: str, parameters: Sequence[nn.Parameter]) -> list[Tensor]:
        """The role's gradient with respect to `parameters` as they stand, in fp32 (fp64 for fp64 weights).

        UserError if the loss reaches none of them.
        """
        total: list[Tensor] = []
        losses: list[Tensor] = []
        reached = False
        for draw in self._draws:
            with self._autocast():
                loss = self._objective.loss(role, draw)
            if loss.ndim != 0:
                raise ValueError(
                    f"the loss of role '{role}' has shape {tuple(loss.shape)}, expected a scalar"
                )
            losses.append(loss.detach().float())
            found: Sequence[Tensor | None] = [None] * len(parameters)
            if loss.requires_grad:
                found = torch.autograd.grad(loss * self._scale, parameters, allow_unused=True)
            del loss
            reached = reached or any(gradient is not None for gradient in found)
            wide = [
                torch.zeros_like(parameter, dtype=_wide(parameter.dtype))
                if gradient is None
                else gradient.to(_wide(gradient.dtype))
                for gradient, parameter in zip(found, parameters, strict=True)
            ]
            if total:
                torch._foreach_add_(total, wide)
            else:
                total = wide
        if not reached:
            raise UserError(
                f"the loss of role '{role}' reaches none of the {len(parameters)} tensors in scope; "
                "choose a scope whose tensors the objective reads"
            )
        if (divisor := self._scale * len(self._draws)) != 1:
            torch._foreach_div_(total, divisor)
        if role not in self.losses:
            self.losses[role] = self._processes.mean([torch.stack(losses).mean()])[0]
        return self._processes.mean(total)


class GradScale:
    """The factor that keeps fp16 gradients from vanishing: halved on overflow, doubled after good steps."""

    def __init__(self, enabled: bool, start: float = 2.0**16, patience: int = 2000) -> None:
        self.enabled = enabled
        self.value = start if enabled else 1.0
        self.good = 0
        self._patience = patience

    def shrink(self) -> bool:
        """Halve the factor; False where it is 1 already, so that it was not the factor that overflowed."""
        if self.value <= 1:
            return False
        self.value, self.good = self.value / 2, 0
        return True

    def succeeded(self) -> None:
        """Count a good step."""
        if self.enabled:
            self.good += 1
            if self.good % self._patience == 0:
                self.value *= 2


def global_norm(gradient: list[Tensor]) -> Tensor:
    """The L2 norm over all tensors together, as a scalar tensor."""
    return torch.stack(torch._foreach_norm(gradient)).norm()


def clip_(gradient: list[Tensor], norm: float, limit: float | None) -> None:
    """Scale the gradient, whose norm is given, down to the limit in place, if it is over one."""
    if limit is not None and norm > limit:
        torch._foreach_mul_(gradient, limit / norm)


def micro_batch_rng(seed: int, step: int, micro: int) -> torch.Generator:
    """A fresh CPU generator that depends on nothing but its arguments, so that resuming needs no state of it.

    `micro` counts the step's micro-batches over all processes: who evaluates one does not change what it
    holds.
    """
    digest = hashlib.sha256(f"{seed}/{step}/{micro}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)


def as_floats(values: Mapping[str, Tensor]) -> dict[str, float]:
    """The scalars as floats, with one transfer from the device."""
    if not values:
        return {}
    stacked = torch.stack([value.detach().float() for value in values.values()])
    return dict(zip(values, stacked.tolist(), strict=True))


def _wide(dtype: torch.dtype) -> torch.dtype:
    return dtype if dtype == torch.float64 else torch.float32
