"""Masks as FreezeAsGuard's released code writes them: one number a line, in the order of the UNet's
parameters.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from oubliette.core.errors import UserError
from oubliette.guard.canonical import one_line, own_name
from oubliette.guard.mask import Mask

if TYPE_CHECKING:
    from oubliette.backends.base import Backend

__all__ = ["convert", "read"]

_LARGEST = 64 << 20  # bytes


def read(path: Path | str, model: Backend) -> list[str]:
    """Names of the tensors that a text vector freezes (1.000e+00) in `model`, in the model's order.

    The file has no names: its i-th line is the i-th parameter of the denoiser (of a language model, of the
    whole) as `parameters()` lists them, so it means something for the model it was learned on alone.
    UserError, in one line, for a wrong number of lines and a value other than 0 and 1. Source:
    FreezeAsGuard's released code (`methods/guard.md` 2.4).
    """
    path = Path(path)
    names = _candidates(model)
    try:
        if path.stat().st_size > _LARGEST:
            raise UserError(
                f"{path}: has {path.stat().st_size} bytes; a text vector of {len(names)} lines is expected"
            )
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: is no text; expected one number a line, 0 or 1") from error
    except (OSError, ValueError) as error:  # ValueError: a null character in the path
        raise UserError(f"{one_line(path)}: cannot be read ({one_line(error)})") from error
    rows = [(place, line.strip()) for place, line in enumerate(lines, 1) if line.strip()]
    values = [_value(text, f"{path}, line {place}") for place, text in rows]
    if len(values) != len(names):
        raise UserError(
            f"{path}: has {len(values)} values, but {model.source} has {len(names)} parameter tensors; give "
            "the model that the mask was learned on, without adapters"
        )
    return [name for name, frozen in zip(names, values, strict=True) if frozen]


def convert(path: Path | str, model: Backend, **facts: Any) -> Mask:
    """A text vector as a mask of `model`; `facts` go to `Mask.make` (`learned`, `revision`, ...).

    The vector says nothing of how it was learned, so by default only where it came from is recorded.
    """
    path = Path(path)
    facts.setdefault(
        "learned", {"learner": "unknown", "converted_from": f"FreezeAsGuard text vector {path.name}"}
    )
    return Mask.make(model, read(path, model), candidates=_candidates(model), **facts)


def _candidates(model: Backend) -> list[str]:
    from oubliette.train.scope import network

    return [own_name(name) for name in network(model)]


def _value(text: str, where: str) -> bool:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if value not in (0.0, 1.0):
        raise UserError(f"{where}: found {one_line(ascii(text))[:40]}, expected 0 (trainable) or 1 (frozen)")
    return value == 1.0
