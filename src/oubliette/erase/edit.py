"""What a solved method yields: edits of named tensors, and how they are applied."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from oubliette.core.errors import UserError

Factors = tuple[Tensor, Tensor]


class Edit:
    """One tensor's change: `name` as in `Backend.tensors()`, and what is added to it.

    Given either as `delta`, of the tensor's shape, or as `factors` (up (out, k), down (k, in)), of which the
    delta is the product up @ down: an edit of rank k, which a LoRA holds exactly. Any float dtype. The
    product is formed when it is asked for and not kept: edits of a large model fit beside it. Raises
    ValueError unless exactly one of the two is given, and for factors that do not fit each other.
    """

    __slots__ = ("_delta", "factors", "name")

    def __init__(self, name: str, delta: Tensor | None = None, *, factors: Factors | None = None) -> None:
        if (delta is None) == (factors is None):
            raise ValueError(f"the edit of '{name}' takes a delta or its factors, one of them")
        if factors is not None:
            up, down = factors
            if up.ndim != 2 or down.ndim != 2 or up.shape[1] != down.shape[0]:
                raise ValueError(
                    f"the factors of the edit of '{name}' do not fit: {tuple(up.shape)} and "
                    f"{tuple(down.shape)}; expected (out, k) and (k, in)"
                )
        self.name = name
        self.factors = factors
        self._delta = delta

    @property
    def shape(self) -> tuple[int, ...]:
        """The delta's shape, without forming it."""
        if self.factors is None:
            assert self._delta is not None
            return tuple(self._delta.shape)
        up, down = self.factors
        return (up.shape[0], down.shape[1])

    @property
    def delta(self) -> Tensor:
        """What is added to the tensor; formed anew each time where the edit is given by its factors."""
        if self.factors is None:
            assert self._delta is not None
            return self._delta
        up, down = self.factors
        return up @ down

    def is_finite(self) -> bool:
        """Whether every element of the delta is; the product of factors is formed only in doubt."""
        if self.factors is not None:
            up, down = self.factors
            if up.numel() == 0 or down.numel() == 0:
                return True
            bound = up.abs().max().double() * down.abs().max().double() * up.shape[1]
            if float(bound) < torch.finfo(up.dtype).max:
                return True  # no sum can overflow (NaN fails the comparison)
        return bool(torch.isfinite(self.delta).all())


@torch.no_grad()
def apply_edits(named: Mapping[str, nn.Parameter], edits: Iterable[Edit]) -> tuple[str, ...]:
    """Add each edit to its tensor in place and give back the names that were edited.

    The sum is taken in fp64 and rounded once to the tensor's own dtype, so that a small edit of a 16-bit
    weight is not rounded twice. Raises KeyError for a name outside `named` (the scope), ValueError for
    another shape, and UserError, before anything is changed, if an edit is not finite: all edits are solved
    before the first is applied.
    """
    ready = list(edits)
    for edit in ready:
        if edit.name not in named:
            raise KeyError(f"the edit of '{edit.name}' lies outside the scope")
        if edit.shape != tuple(named[edit.name].shape):
            raise ValueError(
                f"the edit of '{edit.name}' has shape {edit.shape}, "
                f"the tensor {tuple(named[edit.name].shape)}"
            )
        if not edit.is_finite():
            raise UserError(
                f"the solved edit of '{edit.name}' is not finite; raise the method's regularisation"
            )
    for edit in ready:
        tensor = named[edit.name]
        tensor.copy_(tensor.double() + edit.delta.to(tensor.device, torch.float64))
    return tuple(edit.name for edit in ready)
