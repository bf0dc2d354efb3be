"""Which tensors a run changed, in the dtype they will be stored in, and what the rounding cost."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from oubliette.errors import UserError

ROUNDING_BOUND = 0.01


class RoundingWarning(UserWarning):
    """Storing the edited tensors in the base's dtype loses a noticeable part of the update."""


def changed_tensors(
    current: Mapping[str, Tensor],
    base: Callable[[str], Tensor],
    *,
    dtype: torch.dtype | None = None,
) -> dict[str, Tensor]:
    """Those of `current` that differ from the base, on the CPU, in the base's dtype (or in `dtype`).

    `base(name)` gives a tensor as the base stores it; tensors are compared one at a time, in the dtype the
    model holds them in. Tensors that fall back onto the base's bits when rounded are left out. Warns
    (RoundingWarning) when rounding eats more than 1 % of the norm of the whole update; raises UserError
    where a changed tensor is not finite as it would be stored.
    """
    changed: dict[str, Tensor] = {}
    update_square = loss_square = 0.0
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
        if written.dtype != stored.dtype or not torch.equal(written, stored):
            changed[name] = written.contiguous()
    if loss_square > ROUNDING_BOUND**2 * update_square:
        share = (loss_square / update_square) ** 0.5
        warnings.warn(
            f"rounding to the base's dtype eats {share:.1%} of the update's norm; "
            "save in float32 to keep all of it",
            RoundingWarning,
            stacklevel=2,
        )
    return changed
