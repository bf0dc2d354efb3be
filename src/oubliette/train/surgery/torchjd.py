"""The aggregators of the optional package torchjd, by name."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from importlib import import_module
from typing import Any, Literal

import torch
from torch import Tensor

from oubliette.core.errors import UserError, suggest
from oubliette.train.gradients import step_rng
from oubliette.train.roles import Role
from oubliette.train.surgery.base import BaseSurgery

__all__ = ["TorchJD"]


class TorchJD(BaseSurgery):
    """Combine the roles' gradients by any aggregator of the optional package torchjd (pip install
    'oubliette[surgery]').

    The rows of its matrix are the gradients times their roles' weights, in the objective's order; a role of
    weight 0 has none. What comes back keeps the aggregator's own scale: UPGrad (arXiv 2406.16232), where no
    two rows conflict, is their mean, half of `sum` for two roles. `options` are the aggregator's own, a list
    of numbers standing for a tensor (`pref_vector: [1, 2]`). `per="tensor"` gives it each tensor's matrix
    alone.

    Memory: the matrix is one more copy of all roles' gradients at most (roles x parameters x 4 bytes; with
    `per="tensor"`, of the largest tensor's), less what of them is let go while it is filled, and the
    aggregator's own. Randomness is drawn from (seed, step). An aggregator that remembers earlier steps
    (GradVac, NashMTL, PCD, ExcessMTL) works, but a run with it cannot be resumed. Raises UserError where
    torchjd, the aggregator, an option or what the aggregator itself needs is missing.
    """

    def __init__(
        self,
        aggregator: str = "UPGrad",
        options: dict[str, Any] | None = None,
        per: Literal["tensor", "all"] = "all",
    ) -> None:
        self.aggregator = aggregator
        self.options = dict(options or {})
        self.per = per
        self._aggregate = _build(aggregator, self.options)
        self._step = self._seed = 0
        self._facts: dict[str, float] = {}

    def begin(self, step: int, steps: int, seed: int) -> None:
        """Keep what an aggregator's randomness is drawn from."""
        self._step, self._seed = step, seed

    def needs(self, role: Role) -> bool:
        """A role of weight 0 has no row."""
        return role.weight != 0

    def facts(self) -> dict[str, float]:
        """`agreement`: the least cosine of a role's gradient with the update (its mean over matrices)."""
        return self._facts

    @torch.no_grad()
    def combine(self, grads: dict[str, list[Tensor]], roles: Mapping[str, Role]) -> list[Tensor]:
        """What the aggregator makes of the matrix, cut into the parameters' shapes; empties the gradients."""
        gradients = list(grads.values())
        weights = [roles[name].weight for name in grads]
        shapes = [tensor.shape for tensor in gradients[0]]
        everything = list(range(len(shapes)))
        update: list[Tensor] = []
        agreements = []
        for part in [everything] if self.per == "all" else [[index] for index in everything]:
            matrix = _matrix(gradients, weights, part)
            vector = self._aggregated(matrix)
            agreements.append(_least_cosine(matrix, vector))
            del matrix
            pieces = vector.split([shapes[index].numel() for index in part])
            update += [piece.view(shapes[index]) for piece, index in zip(pieces, part, strict=True)]
        self._facts = {"agreement": float(torch.stack(agreements).mean())}
        return update

    def load_state(self, state: dict[str, Tensor]) -> None:
        """UserError for an aggregator that remembers earlier steps: torchjd gives no way to save what."""
        if hasattr(self._aggregate, "reset"):
            raise UserError(
                f"surgery torchjd: {self.aggregator} remembers earlier steps, and torchjd does not give its "
                "memory away: a run with it cannot be resumed; start it afresh"
            )
        super().load_state(state)

    def _aggregated(self, matrix: Tensor) -> Tensor:
        # Some aggregators draw from torch's own generators: seeded for the step, and given back as they were.
        devices = [matrix.device] if matrix.device.type == "cuda" else []
        with torch.random.fork_rng(devices):
            torch.manual_seed(step_rng(self._seed, self._step, "torchjd").initial_seed())
            try:
                found: Tensor = self._aggregate(matrix)
            except torch.OutOfMemoryError:
                raise
            except (ValueError, TypeError, RuntimeError) as error:
                raise UserError(
                    f"surgery torchjd: {self.aggregator} cannot combine {matrix.shape[0]} roles' gradients "
                    f"({_one_line(error)})"
                ) from error
        return found


def _build(name: str, options: dict[str, Any]) -> Any:
    try:
        package = import_module("torchjd.aggregation")
    except ModuleNotFoundError as error:
        raise UserError(
            "surgery torchjd: torchjd is not installed; pip install 'oubliette[surgery]'"
        ) from error
    base = package.Aggregator
    known = {
        key: value
        for key, value in vars(package).items()
        if isinstance(value, type) and issubclass(value, base) and not key.endswith("Aggregator")
    }
    if name not in known:
        raise UserError(f"surgery torchjd: no aggregator is called '{name}'; {suggest(name, known)}")
    parameters = inspect.signature(known[name]).parameters
    for key in options:
        if key not in parameters:
            raise UserError(f"surgery torchjd: unknown option '{key}' of {name}; {suggest(key, parameters)}")
    try:
        return known[name](**{key: _as_tensor(value) for key, value in options.items()})
    except (ImportError, TypeError, ValueError, AttributeError) as error:
        raise UserError(f"surgery torchjd: {name} cannot be made ({_one_line(error)})") from error


def _as_tensor(value: Any) -> Any:
    numbers = isinstance(value, list) and all(isinstance(entry, int | float) for entry in value)
    return torch.tensor(value, dtype=torch.float32) if numbers else value


def _matrix(gradients: list[list[Tensor]], weights: list[float], part: list[int]) -> Tensor:
    """The weighted gradients of some of the tensors as rows; each is let go once it is copied."""
    first = gradients[0][part[0]]
    size = sum(gradients[0][index].numel() for index in part)
    matrix = torch.empty(len(gradients), size, dtype=first.dtype, device=first.device)
    del first
    for row, gradient, weight in zip(matrix, gradients, weights, strict=True):
        start = 0
        for index in part:
            count = gradient[index].numel()
            row[start : start + count] = gradient[index].reshape(-1)
            gradient[index] = gradient[index].new_empty(0)
            start += count
        if weight != 1:
            row.mul_(weight)
    return matrix


def _least_cosine(matrix: Tensor, vector: Tensor) -> Tensor:
    norms = matrix.norm(dim=1) * vector.norm()
    return ((matrix @ vector) / norms.clamp_min(torch.finfo(matrix.dtype).tiny)).min()


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())
