"""Every role's gradient off its conflict with every other's."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations
from typing import Literal

import torch
from torch import Tensor

from oubliette.train.gradients import step_rng
from oubliette.train.roles import Role
from oubliette.train.surgery.base import BaseSurgery
from oubliette.train.surgery.products import inner_products, weighted_sum

__all__ = ["PCGrad"]


class PCGrad(BaseSurgery):
    """Take every role's gradient off its conflicts with all others, in random order, and add them, weighted.

    For each role i and the others j in an order drawn from (seed, step): where <p_i, g_j> < 0,
    p_i <- p_i - <p_i, g_j> / ||g_j||^2 * g_j, from p_i = g_i and with the others as they were; the update is
    sum_i weight_i * p_i (arXiv 2001.06782, algorithm 1). All tensors count as one vector unless
    `per="tensor"`; the order is the same for every tensor. A role of weight 0 turns the others and adds
    nothing. No gradient is copied: the projections are worked out on the roles' inner products, in fp64.
    """

    def __init__(self, per: Literal["tensor", "all"] = "all") -> None:
        self.per = per
        self._step = self._seed = 0
        self._facts: dict[str, float] = {}

    def begin(self, step: int, steps: int, seed: int) -> None:
        """Keep what the order is drawn from."""
        self._step, self._seed = step, seed

    def facts(self) -> dict[str, float]:
        """`conflict`: the share of pairs of roles, over all tensors, with a negative cosine; its mean."""
        return self._facts

    def combine(self, grads: dict[str, list[Tensor]], roles: Mapping[str, Role]) -> list[Tensor]:
        """sum_i weight_i * p_i, into the first gradient's memory."""
        self._facts = {}
        weights = [roles[name].weight for name in grads]
        gradients = list(grads.values())
        if len(gradients) == 1:
            return weighted_sum(grads, {name: roles[name].weight for name in grads})
        # What is turned is the gradient of the weighted loss, so that a negative weight means what it says.
        scale = torch.tensor([weight or 1.0 for weight in weights], dtype=torch.float64)
        gram = self._gram(gradients) * scale[:, None, None] * scale[None, :, None]
        shares = torch.zeros(gram.shape[1:], dtype=torch.float64)
        for role, order in enumerate(self.orders(len(gradients))):
            if weights[role]:
                shares += _projected(role, order, gram)
        shares *= scale[:, None]
        total = gradients[0]
        for index, column in enumerate(shares.T.tolist()):
            if column[0] != 1:
                total[index].mul_(column[0])
            for gradient, share in zip(gradients[1:], column[1:], strict=True):
                if share:
                    total[index].add_(gradient[index], alpha=share)
        return total

    def orders(self, count: int) -> list[list[int]]:
        """For each of `count` roles, the others in the order of this step."""
        rng = step_rng(self._seed, self._step, "pcgrad")
        drawn = [torch.randperm(count - 1, generator=rng).tolist() for _ in range(count)]
        return [[other + (other >= role) for other in order] for role, order in enumerate(drawn)]

    def _gram(self, gradients: list[list[Tensor]]) -> Tensor:
        """The roles' inner products on the CPU, (roles, roles, tensors); notes the facts."""
        count = len(gradients)
        gram = torch.zeros(count, count, len(gradients[0]), dtype=torch.float64)
        cosines = []
        for left, right in combinations(range(count), 2):
            found = inner_products(gradients[left], gradients[right], self.per)
            inner, left_norm, right_norm = torch.stack(found).cpu().double()
            gram[left, right] = gram[right, left] = inner
            gram[left, left], gram[right, right] = left_norm.square(), right_norm.square()
            cosines.append(inner / (left_norm * right_norm).clamp_min(torch.finfo(torch.float64).tiny))
        cosine = torch.stack(cosines)
        self._facts = {"conflict": float((cosine < 0).double().mean()), "cosine": float(cosine.mean())}
        return gram


def _projected(role: int, order: list[int], gram: Tensor) -> Tensor:
    """The role's projected gradient as shares of all gradients, (roles, tensors)."""
    shares = torch.zeros(gram.shape[1:], dtype=torch.float64)
    shares[role] = 1.0
    for other in order:
        inner = (shares * gram[:, other]).sum(0)
        square = gram[other, other]
        shares[other] -= torch.where((inner < 0) & (square > 0), inner / square, 0.0)
    return shares
