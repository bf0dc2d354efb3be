"""Bregman divergences by the name of their generator: what a continual-learning loss is made of."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from oubliette.core.errors import UserError, suggest

__all__ = ["GENERATORS", "Generator", "by_definition", "divergence", "generator", "quadratic"]


@dataclass(frozen=True)
class Generator:
    """A convex function Phi of points given as tensors (..., n), n to a point.

    A point is handed over in the coordinates in which it is computed safely: log-probabilities for a
    distribution, (mean, log std) for a Gaussian. `primal` are the coordinates in which Phi is convex, (...,
    n') or (..., n, 2); `phi` is Phi, one number a point; `slope` its gradient with respect to them. `closed`
    is the divergence without the difference of large numbers.
    """

    primal: Callable[[Tensor], Tensor]
    phi: Callable[[Tensor], Tensor]
    slope: Callable[[Tensor], Tensor]
    closed: Callable[[Tensor, Tensor], Tensor]


def divergence(kind: Generator, p: Tensor, q: Tensor) -> Tensor:
    """D_Phi(p, q), one number a point, in its closed form; differentiable in both."""
    return kind.closed(p, q)


def by_definition(kind: Generator, p: Tensor, q: Tensor) -> Tensor:
    """Phi(p) - Phi(q) - <grad Phi(q), p - q>, one number a point: what `closed` is held against."""
    product = kind.slope(q) * (kind.primal(p) - kind.primal(q))
    return kind.phi(p) - kind.phi(q) - product.flatten(p.ndim - 1).sum(-1)


def _xlogx(log: Tensor) -> Tensor:
    """x log x from log x; 0 where x is 0, with a gradient of 0 there."""
    there = log > -math.inf
    safe = torch.where(there, log, 0.0)
    return torch.where(there, safe.exp() * safe, 0.0)


def _kl(p: Tensor, q: Tensor) -> Tensor:
    """sum p (log p - log q) from log-probabilities; where p is 0, nothing is added whatever q is."""
    there = p > -math.inf
    log_q = torch.where(there, q, 0.0)
    return (_xlogx(p) - torch.where(there, p.exp() * log_q, 0.0)).sum(-1)


def _squared(scale: Callable[[Tensor], float]) -> Generator:
    return Generator(
        primal=lambda x: x,
        phi=lambda x: x.square().sum(-1) * scale(x),
        slope=lambda x: 2 * x * scale(x),
        closed=lambda p, q: (p - q).square().sum(-1) * scale(p),
    )


def quadratic(fisher: Tensor) -> Generator:
    """1/2 sum F x^2 with a diagonal F of the points' shape: the Laplace approximation's generator."""
    return Generator(
        primal=lambda x: x,
        phi=lambda x: 0.5 * (fisher * x.square()).sum(-1),
        slope=lambda x: fisher * x,
        closed=lambda p, q: 0.5 * (fisher * (p - q).square()).sum(-1),
    )


def _natural(x: Tensor) -> Tensor:
    """(mu / s^2, -1 / (2 s^2)) of points (..., n, 2) that hold (mu, log s)."""
    mean, log_std = x.unbind(-1)
    precision = (-2 * log_std).exp()
    return torch.stack([mean * precision, -0.5 * precision], dim=-1)


def _log_partition(x: Tensor) -> Tensor:
    """sum mu^2 / (2 s^2) + log s, less constants."""
    mean, log_std = x.unbind(-1)
    return 0.5 * mean.square() * (-2 * log_std).exp() + log_std


def _moments(x: Tensor) -> Tensor:
    """(mu, mu^2 + s^2): the gradient of the log-partition."""
    mean, log_std = x.unbind(-1)
    return torch.stack([mean, mean.square() + (2 * log_std).exp()], dim=-1)


def _gaussian(p: Tensor, q: Tensor) -> Tensor:
    """KL(q || p), element by element: the divergence of the log-partition swaps the two."""
    (mean_p, log_p), (mean_q, log_q) = p.unbind(-1), q.unbind(-1)
    ratio = 2 * (log_q - log_p)
    distance = (mean_p - mean_q).square() * (-2 * log_p).exp()
    return 0.5 * (ratio.exp() + distance - 1 - ratio)


GENERATORS: dict[str, Generator] = {
    "squared": _squared(lambda x: 1.0),
    "mean squared": _squared(lambda x: 1.0 / x.shape[-1]),
    "negative entropy": Generator(
        primal=lambda x: x.exp(), phi=lambda x: _xlogx(x).sum(-1), slope=lambda x: x + 1, closed=_kl
    ),
    # Points are single weights' (mu, log s): (..., 2).
    "gaussian": Generator(primal=_natural, phi=_log_partition, slope=_moments, closed=_gaussian),
}
"""By name; `quadratic` needs its metric and is made with one.

"negative entropy" is sum p log p, of log-probabilities; its divergence KL(p || q). "mean squared" is ||x||^2
/ n, as `mse_loss` averages. "gaussian" is the log-partition of a Gaussian in natural parameters, whose
divergence D(p, q) is KL(q || p).
"""


def generator(name: str) -> Generator:
    """The generator of that name; UserError with the nearest where there is none."""
    if name not in GENERATORS:
        raise UserError(f"no Bregman generator is called '{name}'; {suggest(name, list(GENERATORS))}")
    return GENERATORS[name]
