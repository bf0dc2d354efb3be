"""Which of a model's parameters ask for a gradient while it is trained."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import nn

if TYPE_CHECKING:
    from oubliette.backends.base import Backend

__all__ = ["parameters_of", "these_alone", "touch"]


def parameters_of(model: Backend) -> list[nn.Parameter]:
    """Every parameter of every component, as often as modules hold it."""
    return [parameter for module in model.modules().values() for parameter in module.parameters()]


@contextmanager
def these_alone(every: Sequence[nn.Parameter], trained: Sequence[nn.Parameter]) -> Iterator[None]:
    """While open, the trained ones of `every` require a gradient and no other does; their flags come back
    after.
    """
    flags = [parameter.requires_grad for parameter in every]
    moving = {id(parameter) for parameter in trained}
    try:
        for parameter in every:
            parameter.requires_grad_(id(parameter) in moving)
        yield
    finally:
        for parameter, flag in zip(every, flags, strict=True):
            parameter.requires_grad_(flag)


def touch(model: Backend) -> None:
    """Mark every weight as changed, for caches that go by a tensor's address and version.

    A swapped tensor may come to lie where another one lay before; versions never run backwards.
    """
    for parameter in parameters_of(model):
        torch.autograd.graph.increment_version(parameter)
