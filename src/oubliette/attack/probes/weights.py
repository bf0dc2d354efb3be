"""What probes share that change weights and then ask as before: layers, a block to ask in, every bit back."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch
from torch import Tensor

from oubliette.backends.layers import is_transposed
from oubliette.train.scope import select

if TYPE_CHECKING:
    from oubliette.backends.base import Backend
    from oubliette.core.validation import StrictModel

__all__ = ["WeightProbe"]


class WeightProbe(ABC):
    """A probe that changes the weights of linear layers; whoever holds the model asks and judges meanwhile.

    Embeddings and the output layer stay (`oubliette.train.scope.linear`). It works on any backend, since it
    neither draws nor answers.
    """

    name: ClassVar[str]
    kind: ClassVar[Literal["relearn", "prompt", "probe"]] = "probe"
    about: ClassVar[str]
    paper: ClassVar[str]
    needs: ClassVar[frozenset[str]] = frozenset()
    Options: ClassVar[type[StrictModel]]

    def __init__(self, options: Any = None) -> None:
        self.options: Any = self.Options() if options is None else options

    @property
    @abstractmethod
    def words(self) -> str:
        """What is done, in a few words with its figures: "4 bits, a scale for each row"."""

    @abstractmethod
    def changed(self, name: str, weight: Tensor) -> Tensor:
        """What becomes of a layer's weight (outputs, inputs) in fp32, in the same shape."""

    @contextmanager
    def altered(self, model: Backend) -> Iterator[dict[str, float]]:
        """Hold the changed weights, in the model's dtype, inside the block; every bit returns at its end.

        Gives `layers`, `weights` (how many numbers they hold) and `moved`, the L2 norm of the change over
        that of the weights. Copies lie on the CPU. UserError for a model without linear layers.
        """
        tensors = select(model, "all-linear")
        transposed = _transposed(model)
        before: dict[str, Tensor] = {}
        square = moved = 0.0
        try:
            # Written in place, which a text encoder's cache of prompts notices; a swapped pointer may not be.
            with torch.no_grad():
                for name, parameter in tensors.items():
                    before[name] = parameter.detach().to("cpu", copy=True)
                    old = parameter.detach().T if id(parameter) in transposed else parameter.detach()
                    new = self.changed(name, old.float()).to(parameter.dtype)
                    square += float(old.double().square().sum())
                    moved += float((new.double() - old.double()).square().sum())
                    parameter.copy_(new.T if id(parameter) in transposed else new)
            yield {
                "layers": float(len(tensors)),
                "weights": float(sum(value.numel() for value in before.values())),
                "moved": (moved / square) ** 0.5 if square else 0.0,
            }
        finally:
            with torch.no_grad():
                for name, value in before.items():
                    tensors[name].copy_(value)


def _transposed(model: Backend) -> set[int]:
    """The ids of weights that lie as (inputs, outputs)."""
    return {
        id(module.weight)
        for component in model.modules().values()
        for module in component.modules()
        if is_transposed(module)
    }
