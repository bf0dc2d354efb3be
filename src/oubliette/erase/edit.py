"""What a solved method yields: edits of named tensors, and how they are applied."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from oubliette.errors import UserError


@dataclass(frozen=True)
class Edit:
    """One tensor's change: `name` as in `Backend.tensors()`, `delta` of its shape in any float dtype."""

    name: str
    delta: Tensor


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
        if edit.delta.shape != named[edit.name].shape:
            raise ValueError(
                f"the edit of '{edit.name}' has shape {tuple(edit.delta.shape)}, "
                f"the tensor {tuple(named[edit.name].shape)}"
            )
        if not bool(torch.isfinite(edit.delta).all()):
            raise UserError(
                f"the solved edit of '{edit.name}' is not finite; raise the method's regularisation"
            )
    for edit in ready:
        tensor = named[edit.name]
        tensor.copy_(tensor.double() + edit.delta.to(tensor.device, torch.float64))
    return tuple(edit.name for edit in ready)
