"""What numbers a command takes, beyond what their type says: callbacks of options."""

from __future__ import annotations

import math
from typing import Any

import typer

__all__ = ["finite", "seed", "share"]


def finite(value: Any) -> Any:
    """The number, or each of a list, as it is; a wrong value where one is infinite or no number."""
    for each in value if isinstance(value, list | tuple) else [value]:
        if each is not None and not math.isfinite(each):
            raise typer.BadParameter(f"expected a finite number, found {each}")
    return value


def share(value: float | None) -> float | None:
    """The share as it is; a wrong value where it is not above 0 and at most 1."""
    if value is not None and not 0 < value <= 1:
        raise typer.BadParameter(f"must lie in 0..1 (0.1 is 10 %), found {value:g}")
    return value


def seed(value: int | None) -> int | None:
    """The seed as it is; a wrong value where no generator takes it."""
    from oubliette.core.validation import MAX_SEED

    if value is not None and value > MAX_SEED:
        raise typer.BadParameter(f"must lie in 0..2^63-1, found {value}")
    return value
