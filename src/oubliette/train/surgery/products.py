"""Weighted sums and inner products of gradients that are lists of tensors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor

__all__ = ["inner_products", "weighted_sum"]

_CHUNK = 2**25  # elements whose products are held at once: bounds the inner products' memory


def weighted_sum(grads: Mapping[str, list[Tensor]], weights: Mapping[str, float]) -> list[Tensor]:
    """sum_i weight_i * gradient_i, into the first one's memory."""
    (first, total), *others = grads.items()
    if weights[first] != 1:
        torch._foreach_mul_(total, weights[first])
    for name, gradient in others:
        torch._foreach_add_(total, gradient, alpha=weights[name])
    return total


def inner_products(left: list[Tensor], right: list[Tensor], per: str) -> tuple[Tensor, Tensor, Tensor]:
    """<l, r>, ||l|| and ||r|| for each tensor, or for all as one (given n times); each of shape (n,)."""
    products = [
        product.sum()
        for part in _chunks(left)
        for product in torch._foreach_mul([left[i] for i in part], [right[i] for i in part])
    ]
    inner = torch.stack(products)
    left_norm, right_norm = torch.stack(torch._foreach_norm(left)), torch.stack(torch._foreach_norm(right))
    if per == "tensor":
        return inner, left_norm, right_norm
    whole = (inner.sum(), left_norm.norm(), right_norm.norm())
    count = len(products)
    return whole[0].expand(count), whole[1].expand(count), whole[2].expand(count)


def _chunks(tensors: Sequence[Tensor]) -> Iterator[list[int]]:
    """Runs of indices of at most `_CHUNK` elements together (or one tensor)."""
    run: list[int] = []
    size = 0
    for index, tensor in enumerate(tensors):
        if run and size + tensor.numel() > _CHUNK:
            yield run
            run, size = [], 0
        run.append(index)
        size += tensor.numel()
    if run:
        yield run
