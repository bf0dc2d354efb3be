"""What a mask may freeze: weights of two or more dimensions, each with the biases and norms after it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

from oubliette.core.errors import UserError, suggest
from oubliette.train.scope import select

if TYPE_CHECKING:
    from torch import nn

    from oubliette.backends.base import Backend

__all__ = ["Candidate", "Candidates", "Each", "Shares", "followers_of"]

Each = Literal["weight", "tensor"]


@dataclass(frozen=True)
class Candidate:
    """One thing that is frozen or not: the weight it is named after, and its followers.

    `tensors` begins with the weight; `parameters` counts the numbers in all of them; `dimensions` are the
    weight's.
    """

    name: str
    tensors: tuple[str, ...]
    parameters: int
    dimensions: int


@dataclass(frozen=True)
class Shares:
    """How much a mask freezes of the scope it was learned in: as shares of its parameters and its tensors."""

    parameters: float
    tensors: float


@dataclass(frozen=True)
class Candidates:
    """The candidates of a model within a scope, in the model's order, and how large everything is.

    `sizes` are the numbers of parameters of every tensor of the scope, followers too, by name.
    """

    units: tuple[Candidate, ...]
    sizes: Mapping[str, int]
    scope: str
    each: Each

    @classmethod
    def of(
        cls, model: Backend, scope: str | Mapping[str, Any] = "full", *, each: Each = "weight"
    ) -> Candidates:
        """The candidates among the tensors that a scope (`oubliette.train.scope`) selects.

        `each` "weight": one candidate a tensor of two or more dimensions, its followers with it (see
        `followers_of`); 59 % of an SD 1.5 UNet's tensors are biases and norms with 0.05 % of its parameters.
        "tensor": every tensor by itself, as FreezeAsGuard's released code has it. UserError for an unknown
        scope and one without a tensor of two or more dimensions.
        """
        selected = select(model, scope)
        name = scope if isinstance(scope, str) else str(scope["name"])
        if each == "tensor":
            groups: dict[str, list[str]] = {tensor: [] for tensor in selected}
        elif each == "weight":
            groups = followers_of({tensor: parameter.ndim for tensor, parameter in selected.items()})
        else:
            raise UserError(f"guard: candidates are given by 'each', 'weight' or 'tensor', found {each!r}")
        if not groups:
            raise UserError(
                f"guard: scope '{name}' of {model.source} holds no weight of two or more dimensions, only "
                f"{len(selected)} biases and norms; choose a wider scope"
            )
        sizes = {tensor: parameter.numel() for tensor, parameter in selected.items()}
        units = tuple(
            Candidate(
                weight,
                (weight, *group),
                sum(sizes[tensor] for tensor in (weight, *group)),
                selected[weight].ndim,
            )
            for weight, group in groups.items()
        )
        return cls(units, sizes, name, each)

    def __len__(self) -> int:
        return len(self.units)

    @cached_property
    def names(self) -> list[str]:
        """The candidates' names, in the model's order."""
        return [unit.name for unit in self.units]

    @cached_property
    def place(self) -> dict[str, int]:
        """Each tensor's candidate, as a place in `units`, in the order in which the units list them."""
        return {tensor: index for index, unit in enumerate(self.units) for tensor in unit.tensors}

    @property
    def parameters(self) -> int:
        """The number of parameters of the whole scope."""
        return sum(self.sizes.values())

    def expand(self, chosen: Iterable[str]) -> list[str]:
        """All tensors that freezing the candidates of these names freezes, in the model's order.

        UserError for a name that is no candidate.
        """
        known = {unit.name: unit for unit in self.units}
        found: set[str] = set()
        for name in chosen:
            if name not in known:
                raise UserError(f"guard: '{name}' is no candidate of the mask; {suggest(name, known)}")
            found.update(known[name].tensors)
        return [name for name in self.sizes if name in found]

    def shares(self, tensors: Iterable[str]) -> Shares:
        """Both shares of the scope that these tensors are."""
        frozen = set(tensors)
        return Shares(
            parameters=sum(self.sizes[name] for name in frozen) / self.parameters,
            tensors=len(frozen) / len(self.sizes),
        )

    def of_model(self, model: Backend) -> dict[str, nn.Parameter]:
        """The scope's parameters in a model, by name."""
        tensors = model.tensors()
        return {name: tensors[name] for name in self.sizes}


def followers_of(dimensions: Mapping[str, int]) -> dict[str, list[str]]:
    """Which tensors follow which weight, from their numbers of dimensions by name, in the model's order.

    A bias follows the weight of its own module. A norm (or anything else without a weight in its module)
    follows the nearest one of its block: of the weights in the smallest enclosing module that has any, the
    first that is listed after it, or else the last before it. So `norm1` of a ResNet block follows `conv1`,
    whose input it scales, and Llama's layer norms, listed last, follow their own layer's `down_proj`.
    """
    order = list(dimensions)
    at = {name: place for place, name in enumerate(order)}
    inside: dict[str, list[str]] = {}
    groups: dict[str, list[str]] = {}
    for name in order:
        if dimensions[name] < 2:
            continue
        groups[name] = []
        for module in _enclosing(name):
            inside.setdefault(module, []).append(name)
    if not groups:
        return {}
    for name in order:
        if dimensions[name] < 2:
            near = next(inside[module] for module in _enclosing(name) if module in inside)
            after = [weight for weight in near if at[weight] > at[name]]
            own = [weight for weight in near if _module(weight) == _module(name)]
            groups[(own or after[:1] or near[-1:])[0]].append(name)
    return groups


def _module(name: str) -> str:
    return name.rpartition(".")[0]


def _enclosing(name: str) -> list[str]:
    """The modules a tensor lies in, from its own outwards to the whole ("")."""
    parts = name.split(".")[:-1]
    return [".".join(parts[:count]) for count in range(len(parts), -1, -1)]
