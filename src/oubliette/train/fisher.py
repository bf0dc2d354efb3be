"""The diagonal of the Fisher information: how much each weight matters to what a model says of some items."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any, Literal, Protocol

import torch
from torch import Tensor

from oubliette.core.errors import UserError, suggest
from oubliette.train.trainable import parameters_of, these_alone

if TYPE_CHECKING:
    from oubliette.backends.base import Backend

__all__ = ["Likelihoods", "Mode", "check_fisher", "fisher_diag"]

Mode = Literal["empirical", "weighted"]


class Likelihoods(Protocol):
    """Items whose likelihood a model knows: labelled pictures, answers to questions."""

    def __len__(self) -> int:
        """How many items there are."""

    def log_likelihood(self, model: Any, index: int) -> Tensor:
        """log p(y | x) of one item as a scalar with a graph: a sum over an answer's tokens."""


def fisher_diag(
    model: Backend,
    data: Likelihoods,
    mode: Mode = "empirical",
    *,
    names: Collection[str] | None = None,
) -> dict[str, Tensor]:
    """The mean over items of (d log p(y | x) / d w)^2 by tensor name, in fp32 (fp64 for fp64 weights).

    `empirical` counts every item alike (EWC: Kirkpatrick et al. 2017, with the labels there are); `weighted`
    counts each by p(y | x), as the released code of refresh learning does (2403.13249). One forward and one
    backward pass an item, at the weights as they stand. `names` are the tensors wanted, all of
    `model.tensors()` by default. A tensor that the likelihood does not reach has zeros. UserError for no
    items, and for a name that is no tensor of the model.
    """
    if not len(data):
        raise UserError("a Fisher information needs at least one item, found none")
    tensors = model.tensors()
    wanted = list(tensors) if names is None else list(names)
    for name in wanted:
        if name not in tensors:
            raise UserError(f"Fisher: the model has no tensor '{name}'; {suggest(name, list(tensors))}")
    parameters = [tensors[name] for name in wanted]
    wide = [torch.promote_types(parameter.dtype, torch.float32) for parameter in parameters]
    total = [torch.zeros_like(p, dtype=dtype) for p, dtype in zip(parameters, wide, strict=True)]
    with these_alone(parameters_of(model), parameters):
        for index in range(len(data)):
            likelihood = data.log_likelihood(model, index)
            weight = float(likelihood.detach().exp()) if mode == "weighted" else 1.0
            found = torch.autograd.grad(likelihood, parameters, allow_unused=True)
            for held, gradient in zip(total, found, strict=True):
                if gradient is not None:
                    square = gradient.to(held.dtype)
                    held.addcmul_(square, square, value=weight)
    return {name: held.div_(len(data)) for name, held in zip(wanted, total, strict=True)}


def check_fisher(name: str, fisher: Tensor | None, tensor: Tensor, who: str) -> None:
    """UserError, opened with `who` asks, where a Fisher has nothing for a tensor, or something of another
    shape: it is another model's.
    """
    if fisher is None or fisher.shape != tensor.shape:
        found = "is missing" if fisher is None else f"has shape {tuple(fisher.shape)}"
        raise UserError(
            f"{who}: the Fisher of '{name}' {found}, the tensor has shape {tuple(tensor.shape)}: "
            "it is another model's; take it of this model's tensors"
        )
