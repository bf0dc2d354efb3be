"""One token out of a vocabulary as a point that gradients can move: the simplex and its corners."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

__all__ = ["corner", "project_to_simplex"]


def project_to_simplex(points: Tensor) -> Tensor:
    """The nearest points, in Euclidean distance, with no negative entry and rows that sum to 1.

    `points` is (..., n) floating, projected row by row, in float64 within. With the entries sorted downwards,
    u_1 >= ... >= u_n, the answer is max(x - theta, 0) with theta = (u_1 + ... + u_r - 1) / r for the greatest
    r that leaves u_r > theta (Held, Wolfe and Crowder 1974).
    """
    wide = points.double()
    falling = wide.sort(dim=-1, descending=True).values
    excess = falling.cumsum(dim=-1) - 1
    counts = torch.arange(1, points.shape[-1] + 1, device=points.device, dtype=torch.float64)
    support = (falling * counts > excess).sum(dim=-1, keepdim=True)
    theta = excess.gather(-1, support - 1) / support
    return (wide - theta).clamp(min=0).to(points.dtype)


def corner(weights: Tensor, sampled: torch.Generator | None = None) -> Tensor:
    """One-hot rows in place of `weights` (..., n), with the gradient passed straight through to them.

    The hot entry is the greatest (the first of equals), or with `sampled` one drawn with the weights as
    probabilities. Forward exactly one-hot; backward the identity (Bengio, Leonard and Courville 2013).
    """
    if sampled is None:
        chosen = weights.detach().argmax(dim=-1)
    else:
        rows = weights.detach().reshape(-1, weights.shape[-1]).cpu()
        chosen = torch.multinomial(rows, 1, generator=sampled).reshape(weights.shape[:-1]).to(weights.device)
    hot: Tensor = _Straight.apply(weights, chosen)
    return hot


class _Straight(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, weights: Tensor, chosen: Tensor) -> Tensor:
        return torch.zeros_like(weights).scatter_(-1, chosen.unsqueeze(-1), 1.0)

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor, None]:
        return upstream[0], None
