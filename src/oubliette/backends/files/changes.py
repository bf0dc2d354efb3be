"""Which tensors a run changed, in the dtype they will be stored in, and what the rounding cost."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from oubliette.core.errors import UserError
from oubliette.core.manifest import read_manifest
from oubliette.core.numbers import percent

__all__ = ["Changes", "RoundingWarning", "changed_tensors", "lost_in", "round_as_stored"]

ROUNDING_BOUND = 0.01


class RoundingWarning(UserWarning):
    """Storing the edited tensors in the base's dtype loses a noticeable part of the update."""


@dataclass(frozen=True)
class Changes:
    """The changed tensors as they are stored, and `lost`, the share of the update's norm that rounding ate
    (1: all of it, and the result is the base).
    """

    tensors: dict[str, Tensor]
    lost: float

    def facts(self) -> dict[str, Any]:
        """What the record says of it: {} where next to nothing was lost."""
        return {"rounding": {"lost": self.lost}} if self.lost > ROUNDING_BOUND else {}


def changed_tensors(
    current: Mapping[str, Tensor],
    base: Callable[[str], Tensor],
    *,
    dtype: torch.dtype | None = None,
) -> Changes:
    """Those of `current` that differ from the base, on the CPU, in the base's dtype (or in `dtype`).

    `base(name)` gives a tensor as the base stores it; tensors are compared one at a time, in the dtype the
    model holds them in. Tensors that fall back onto the base's bits when rounded are left out. Warns
    (RoundingWarning) when rounding eats more than 1 % of the norm of the whole update; raises UserError
    where a changed tensor is not finite as it would be stored.
    """
    changed: dict[str, Tensor] = {}
    update_square = loss_square = 0.0
    dtypes: set[str] = set()
    for name, tensor in current.items():
        now = tensor.detach().cpu()
        stored = base(name).cpu()
        if torch.equal(now, stored.to(now.dtype)):
            continue
        written = now.to(dtype or stored.dtype)
        if not bool(torch.isfinite(written.float()).all()):
            raise UserError(
                f"{name}: holds values that are not finite as {str(written.dtype).removeprefix('torch.')}; "
                "nothing was saved"
            )
        exact = now.double()
        update_square += float((exact - stored.double()).square().sum())
        loss_square += float((exact - written.double()).square().sum())
        dtypes.add(str(written.dtype).removeprefix("torch."))
        if not torch.equal(written.to(now.dtype), stored.to(now.dtype)):
            changed[name] = written.contiguous()
    lost = (loss_square / update_square) ** 0.5 if update_square else 0.0
    if update_square and not changed:
        lost = 1.0
    if lost > ROUNDING_BOUND:
        what = f"eats {percent(lost, '.1f')} of the update's norm" if changed else "eats the whole update"
        outcome = "" if changed else ": what is saved is the base, bit for bit"
        warnings.warn(
            f"rounding to {' and '.join(sorted(dtypes))} {what}{outcome}; "
            "save.dtype float32 (--save-dtype float32) keeps all of it",
            RoundingWarning,
            stacklevel=2,
        )
    return Changes(changed, lost)


def lost_in(folder: Path | str) -> float:
    """The share of an update that was lost when it was saved to `folder`, as its record says."""
    return float((read_manifest(folder).get("rounding") or {}).get("lost", 0.0))


@torch.no_grad()
def round_as_stored(model: Any, names: Iterable[str], dtype: torch.dtype | None) -> None:
    """Round a model's tensors in place to `dtype`, or what its files keep each in: as saving writes them."""
    tensors, files = model.tensors(), getattr(model, "stored", None)
    for name in names:
        own = files.dtype(name) if files is not None else getattr(model, "stored_dtype", None)
        tensors[name].copy_(tensors[name].to(dtype or own or tensors[name].dtype))
