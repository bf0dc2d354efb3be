"""How much a tensor moved, and whether the difference has the low rank of a merged adapter."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from oubliette.guard.verify.tensor_file import TensorPlace

__all__ = ["HIGHEST_RANK", "Difference", "difference"]

HIGHEST_RANK = 128
_SPARE = 16  # columns of the sketch beyond the highest rank (Halko, Martinsson, Tropp 2011 advise 5 to 10)
_SMALLEST_SIDE = 8  # a narrower matrix has low rank whatever was done to it
_SAFETY = 1.5
_EXPONENT = 0x7FF0000000000000
_COARSEST_FIRST = (torch.bfloat16, torch.float16, torch.float32)


@dataclass(frozen=True)
class Difference:
    """What a tensor moved by, after its base was cast to its dtype.

    `max_abs` is the largest |delta|, `relative` ||delta|| / ||base|| (Frobenius); None where values are not
    finite or the base is zero. `rank` is the number of singular values above what rounding can make, where
    that number is small and the rest is no more than rounding; else None.
    """

    max_abs: float | None
    relative: float | None
    rank: int | None


def difference(tuned: TensorPlace, base: TensorPlace) -> Difference:
    """Compare two tensors of one shape piece by piece, in two passes; neither is ever held whole.

    The rank is that of the difference as a matrix of (first side, all others), from a Gaussian sketch (Halko,
    Martinsson, Tropp, SIAM Review 2011). A singular value counts if it is above 1.5 times the norm that a
    matrix of rounding errors has: rms (sqrt(m) + sqrt(n)), each entry's variance ulp^2 / 12, twice, in the
    coarsest dtype that holds the tuned values exactly: an adapter merged in float16 may be stored in float32.
    """
    rows = tuned.shape[0] if tuned.shape else 1
    columns = tuned.size // rows if rows else 0
    matrix = len(tuned.shape) >= 2 and min(rows, columns) >= _SMALLEST_SIDE
    width = min(HIGHEST_RANK + _SPARE, rows, columns) if matrix else 0
    sketcher = torch.randn(columns, width, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    largest = square = base_square = 0.0
    rounding = _Rounding(tuned)
    # Made once and filled: small pieces kept between large ones that go would leave holes all over the heap.
    sketch = torch.zeros(rows, width, dtype=torch.float64)
    done = 0
    for delta, before, now in _both(tuned, base, max(columns, 1)):
        largest = max(largest, float(delta.abs().max()))
        square += float(delta.square().sum())
        base_square += float(before.square().sum())
        rounding.see(now)
        if width:
            block = delta.reshape(-1, columns)
            torch.mm(block, sketcher, out=sketch[done : done + len(block)])
            done += len(block)
    if not math.isfinite(largest) or not math.isfinite(square):
        return Difference(None, None, None)
    relative = math.sqrt(square / base_square) if base_square > 0 else None
    rank = None
    if width and square > 0:
        basis = torch.linalg.qr(sketch)[0]
        rank = _rank(tuned, base, basis, square, rounding.square())
    return Difference(largest, relative, rank)


def _rank(
    tuned: TensorPlace, base: TensorPlace, basis: Tensor, square: float, noise_square: float
) -> int | None:
    rows = basis.shape[0]
    columns = tuned.size // rows
    within = torch.zeros(basis.shape[1], columns, dtype=torch.float64)
    done = 0
    for delta, _, _ in _both(tuned, base, columns):
        block = delta.reshape(-1, columns)
        within.addmm_(basis[done : done + len(block)].T, block)
        done += len(block)
    values = torch.linalg.svdvals(within)
    noise = math.sqrt(noise_square / tuned.size) * (math.sqrt(rows) + math.sqrt(columns))
    bound = max(_SAFETY * noise, 1e-12 * float(values[0]))
    rank = int((values > bound).sum())
    rest = square - float(values[:rank].square().sum())
    low = 0 < rank <= min(HIGHEST_RANK, min(rows, columns) // 4)
    return rank if low and rest <= _SAFETY**2 * noise_square + 1e-12 * square else None


class _Rounding:
    """The expected sum of squared rounding errors of a difference, seen piece by piece."""

    def __init__(self, tuned: TensorPlace) -> None:
        own = tuned.kind
        assert own is not None
        finer = (kind for kind in _COARSEST_FIRST if kind.itemsize < own.itemsize)
        self._squares = dict.fromkeys((*finer, own), 0.0)

    def see(self, piece: Tensor) -> None:
        """Count a piece of the tuned values, fp64; dtypes that do not hold it exactly drop out."""
        for kind in list(self._squares):
            if not torch.equal(piece.to(kind).double(), piece):
                del self._squares[kind]
            else:
                self._squares[kind] += 2 * _ulp_square(piece, kind) / 12

    def square(self) -> float:
        """The sum in the coarsest dtype that is left."""
        return next(iter(self._squares.values()))


def _both(tuned: TensorPlace, base: TensorPlace, row: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """(difference, base, tuned) of each piece, fp64."""
    kind = tuned.kind
    assert kind is not None
    for now, before in zip(tuned.pieces(row), base.pieces(row), strict=True):
        cast = before.to(kind).double()
        exact = now.double()
        yield exact - cast, cast, exact


def _ulp_square(values: Tensor, kind: torch.dtype) -> float:
    """The sum over fp64 values of the squared distance to the next value in a dtype."""
    facts = torch.finfo(kind)
    # With the sign and the fraction's bits gone, a double is the power of two below its magnitude.
    power = (values.view(torch.int64) & _EXPONENT).view(torch.float64)
    return float(power.clamp_min_(facts.smallest_normal).square_().sum()) * facts.eps**2
