"""A loss whose gradient was worked out along the way, not by differentiating how it came about."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["first_order"]


def first_order(value: Tensor, parameters: Sequence[nn.Parameter], slopes: Sequence[Tensor]) -> Tensor:
    """`value` (a scalar) as a loss whose derivative with respect to each parameter is its slope.

    For gradients that are taken elsewhere, as at the end of an inner run, and stand for those here. What
    would differentiate it twice is a RuntimeError, not a curvature of zero.
    """
    found: Tensor = _Given.apply(value.detach(), list(slopes), *parameters)
    return found


class _Given(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, value: Tensor, slopes: list[Tensor], *parameters: Tensor) -> Tensor:
        ctx.slopes = slopes
        ctx.dtypes = [parameter.dtype for parameter in parameters]
        return value.clone()

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> Any:
        if torch.is_grad_enabled():
            raise RuntimeError("its gradient is one of first order, and so once_differentiable")
        (scale,) = outer
        return None, None, *((scale * s).to(dtype) for s, dtype in zip(ctx.slopes, ctx.dtypes, strict=True))
