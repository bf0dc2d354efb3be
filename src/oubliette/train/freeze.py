"""Tensors that must not move: a list of plain names taken out of the scope."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from oubliette.core.errors import UserError, suggest

if TYPE_CHECKING:
    from torch import nn

__all__ = ["apply_freeze", "read_names"]


def apply_freeze(
    named: Mapping[str, nn.Parameter],
    frozen: Sequence[str] | str | Path | None,
    *,
    known: Iterable[str] | None = None,
) -> dict[str, nn.Parameter]:
    """`named` without the frozen tensors.

    `frozen` is a list of names, or the path of a file with them (see `read_names`). `known` are all names of
    the model: a name among them but outside `named` is frozen anyway, any other is a UserError with the
    nearest match. UserError too where nothing is left to train.
    """
    if frozen is None:
        return dict(named)
    names = read_names(frozen) if isinstance(frozen, str | Path) else list(frozen)
    where = f"freeze list {frozen}" if isinstance(frozen, str | Path) else "freeze list"
    every = set(named) | set(known or ())
    for name in names:
        if name not in every:
            raise UserError(f"{where}: the model has no tensor '{name}'; {suggest(name, every)}")
    left = {name: parameter for name, parameter in named.items() if name not in set(names)}
    if not left:
        raise UserError(f"{where} holds all {len(named)} tensors of the scope: nothing is left to train")
    return left


def read_names(path: str | Path) -> list[str]:
    """Tensor names from a JSON list (`.json`), or a text file with one a line (blank and # lines skipped)."""
    path = Path(path)
    if not path.is_file():
        raise UserError(
            f"freeze list {path}: no such file; a text file with one tensor name a line, or a JSON list"
        )
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"freeze list {path}: cannot be read ({reason}); expected text or JSON") from error
    if path.suffix.lower() != ".json":
        lines = (line.strip() for line in text.splitlines())
        return [line for line in lines if line and not line.startswith("#")]
    try:
        found = json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        raise UserError(f"freeze list {path}: not JSON: {error}") from None
    if not isinstance(found, list) or not all(isinstance(name, str) for name in found):
        raise UserError(
            f"freeze list {path}: expected a JSON list of tensor names, found {type(found).__name__}"
        )
    return found
