"""Gradients taken tensor by tensor and dropped on the spot: what a publisher's step costs in memory is one.

The mixed model is linear in the mask, so that dL/dm_i = <theta_pre,i - theta_ft,i, dL/dtheta_i(m)>: one
number a tensor is all that need be kept (FreezeAsGuard, 2405.17472). For an SD 1.5 UNet in fp32 (859.5 M
parameters) the released way holds weights 3.44 GB, gradients 3.44 GB, the bf16 difference 1.72 GB and 0.4 GB
of VAE and text encoder, 9.0 GB; here the gradients are the largest tensor's 0.12 GB (1280 x 2560 x 3 x 3):
5.7 GB by arithmetic, plus working copies of a tensor and the activations of one side instead of both.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from oubliette.core.errors import UserError
from oubliette.guard.learn.draws import Picked
from oubliette.train.trainable import parameters_of, these_alone

if TYPE_CHECKING:
    from oubliette.backends.base import Backend
    from oubliette.guard.learn.problem import Problem

__all__ = ["each_gradient", "gathered", "loss_of", "slopes"]

Use = Callable[[str, Tensor], None]
Statistic = Callable[[str, Tensor], Tensor]


@contextmanager
def each_gradient(model: Backend, parameters: Mapping[str, nn.Parameter], use: Use) -> Iterator[None]:
    """A block in which a backward pass hands each parameter's whole gradient to `use`, then drops it.

    Parameters outside `parameters` get none. `use` may change the parameter: nothing reads it any more in
    that pass. The model's flags and gradients are as before after the block.
    """
    every = parameters_of(model)
    before = [parameter.grad for parameter in every]

    def hook_of(name: str) -> Callable[[Tensor], None]:
        def hook(parameter: Tensor) -> None:
            gradient, parameter.grad = parameter.grad, None
            assert gradient is not None
            with torch.no_grad():
                use(name, gradient)

        return hook

    handles = []
    try:
        for parameter in every:
            parameter.grad = None
        with these_alone(every, list(parameters.values())):
            for name, wanted in parameters.items():
                handles.append(wanted.register_post_accumulate_grad_hook(hook_of(name)))
            yield
    finally:
        for handle in handles:
            handle.remove()
        for parameter, gradient in zip(every, before, strict=True):
            parameter.grad = gradient


def slopes(problem: Problem, picked: Picked, where: str = "") -> tuple[float, Tensor]:
    """A batch's loss at the weights as they stand, and <d_i, dL/dtheta_i> by candidate, (N,) float64."""
    return gathered(problem, picked, problem.difference.with_slope, where)


def gathered(problem: Problem, picked: Picked, statistic: Statistic, where: str = "") -> tuple[float, Tensor]:
    """A batch's loss, and a statistic of each tensor's gradient summed over each candidate's tensors.

    `statistic(name, gradient)` is a scalar tensor; the sums are (N,) float64 on the CPU. UserError where the
    loss or a statistic is not finite, or the loss reaches no tensor of the scope; `where` says which step.
    """
    found: dict[str, Tensor] = {}

    def use(name: str, gradient: Tensor) -> None:
        found[name] = statistic(name, gradient)

    with each_gradient(problem.model, problem.parameters, use):
        with problem.autocast():
            loss = picked.loss(problem.model)
        value = _finite(loss, where)
        if loss.requires_grad:
            loss.backward()
    return value, summed(problem, found, where)


def summed(problem: Problem, found: Mapping[str, Tensor], where: str = "") -> Tensor:
    """Scalars by tensor, summed to one number a candidate, (N,) float64 on the CPU; UserErrors as above."""
    if not found:
        raise UserError(
            f"guard{where}: the loss reaches none of the {len(problem.parameters)} tensors in scope "
            f"'{problem.candidates.scope}'; choose a scope whose tensors the data's loss reads"
        )
    values = torch.stack(list(found.values())).double().cpu()
    if not bool(torch.isfinite(values).all()):
        name = next(name for name, value in found.items() if not math.isfinite(float(value)))
        raise UserError(f"guard{where}: the gradient of {name} is not finite; fp32 usually helps")
    places = torch.tensor([problem.candidates.place[name] for name in found])
    # Summed in the candidates' order, not in that in which the backward pass came to the tensors.
    order = torch.argsort(places, stable=True)
    total = torch.zeros(len(problem.candidates), dtype=torch.float64)
    return total.index_add_(0, places[order], values[order])


def loss_of(problem: Problem, picked: Picked, where: str = "") -> float:
    """A batch's loss at the weights as they stand, without a graph."""
    with torch.no_grad(), problem.autocast():
        return _finite(picked.loss(problem.model), where)


def _finite(loss: Tensor, where: str) -> float:
    value = float(loss.detach())
    if not math.isfinite(value):
        raise UserError(f"guard{where}: the loss is not finite; lower the user's learning rate or use fp32")
    return value
