"""Digests of a tensor's values in each form a platform may hold them in, taken in pieces."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from oubliette.guard.mask import FrozenTensor

__all__ = ["FORMS", "digests", "dtype_name", "matching_form", "pieces"]

FORMS = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
STORED = "stored"
_PIECE = 1 << 20  # elements: a few megabytes, so that a cast never holds a second tensor

Pieces = Callable[[], Iterable[Tensor]]
"""Gives a tensor's values from the first to the last, flat, in pieces on the CPU; may be asked again."""


def dtype_name(dtype: torch.dtype) -> str:
    """ "float32" for torch.float32."""
    return str(dtype).removeprefix("torch.")


def pieces(tensor: Tensor) -> Iterator[Tensor]:
    """The tensor's values in pieces of about a million, flat and contiguous, on the CPU."""
    flat = tensor.detach().reshape(-1)
    for start in range(0, flat.numel(), _PIECE):
        yield flat[start : start + _PIECE].cpu()


def digests(values: Pieces, dtype: torch.dtype, stored: torch.dtype) -> dict[str, str]:
    """sha256 (64 hex digits) of the values' bytes as "stored", "float32", "float16" and "bfloat16".

    Bytes are contiguous and little-endian. `dtype` is what the values are held in; the stored form is in
    `stored`, which must hold them exactly. Casts round to nearest, ties to even, as torch's do.
    """
    wanted = {**FORMS, STORED: stored}
    found, _ = _hash(values, dict.fromkeys(wanted.values()))
    return {form: found[kind] for form, kind in {STORED: stored, **FORMS}.items()}


def matching_form(frozen: FrozenTensor, dtype: torch.dtype, values: Pieces) -> str | None:
    """The form in which values held in `dtype` are the frozen tensor's, bit for bit; None if they are not.

    The digest in `dtype` is compared first. Where it differs, values that a narrower form holds exactly are
    compared in that form: a float16 copy that was opened in float32 is still a float16 copy of the base.
    Never a tolerance.
    """
    own = dtype_name(dtype)
    expected = frozen.sha256[own] if own in FORMS else frozen.sha256[STORED] if own == frozen.dtype else None
    if expected is not None:
        found, _ = _hash(values, [dtype])
        if found[dtype] == expected:
            return own
    narrower = [form for form, kind in FORMS.items() if kind.itemsize < dtype.itemsize]
    if not narrower or not dtype.is_floating_point:
        return None
    found, exact = _hash(values, [FORMS[form] for form in narrower])
    for form in narrower:
        if exact[FORMS[form]] and found[FORMS[form]] == frozen.sha256[form]:
            return form
    return None


def _hash(
    values: Pieces, kinds: Iterable[torch.dtype]
) -> tuple[dict[torch.dtype, str], dict[torch.dtype, bool]]:
    """In one pass: the digest in each dtype, and whether that dtype holds every value exactly."""
    running = {kind: hashlib.sha256() for kind in kinds}
    exact = dict.fromkeys(running, True)
    for piece in values():
        for kind, digest in running.items():
            cast = piece.to(kind)
            if kind != piece.dtype and exact[kind]:
                exact[kind] = torch.equal(cast.to(piece.dtype), piece)
            raw: Any = cast.contiguous().view(torch.uint8).numpy()
            digest.update(raw)
    return {kind: digest.hexdigest() for kind, digest in running.items()}, exact
