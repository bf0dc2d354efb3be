"""A matrix's change as a product of two thin ones: its numerical rank, and what a lower rank leaves out."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["TOLERANCE", "Product", "truncated"]

#: Singular values below this share of the largest are zero.
TOLERANCE = 1e-6


@dataclass(frozen=True)
class Product:
    """`up` (out, r) times `down` (r, in), fp32 on the CPU: the nearest matrix of rank r to what it stands
    for.

    `square` is the squared Frobenius norm of that, `lost` of what the product, as it is written, lacks.
    """

    up: Tensor
    down: Tensor
    square: float
    lost: float

    @property
    def rank(self) -> int:
        """r."""
        return self.up.shape[1]

    @property
    def error(self) -> float:
        """The relative Frobenius error: 0 is exact, 1 is nothing kept."""
        return math.sqrt(self.lost / self.square) if self.square else 0.0

    def padded(self, rank: int) -> tuple[Tensor, Tensor]:
        """Both factors with rows and columns of zeros up to `rank`."""
        up = torch.zeros(self.up.shape[0], rank)
        down = torch.zeros(rank, self.down.shape[1])
        up[:, : self.rank], down[: self.rank] = self.up, self.down
        return up, down


def truncated(
    matrix: Tensor, *, floor: float = 0.0, rank: int | None = None, energy: float | None = None
) -> Product:
    """The best product for a matrix (out, in), from one SVD in fp64 (Eckart and Young 1936).

    Its rank is the number of singular values above both TOLERANCE times the largest and `floor`, at most
    `rank`, and no more than it takes to keep `energy` (0..1) of the squared norm. Each factor takes the root
    of the singular values, so that neither is much larger than the other.
    """
    wide = matrix.detach().to("cpu", torch.float64)
    left, values, right = torch.linalg.svd(wide, full_matrices=False)
    kept = int((values > max(TOLERANCE * float(values[0]), floor)).sum()) if values.numel() else 0
    if energy is not None:
        reached = values.square().cumsum(0) >= energy * values.square().sum()
        kept = min(kept, int((~reached).sum()) + 1)
    if rank is not None:
        kept = min(kept, rank)
    roots = values[:kept].sqrt()
    up = (left[:, :kept] * roots).float()
    down = (roots[:, None] * right[:kept]).float()
    lost = float((wide - up.double() @ down.double()).square().sum())
    return Product(up, down, float(wide.square().sum()), lost)
