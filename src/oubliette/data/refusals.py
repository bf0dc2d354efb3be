"""The refusals that ship: what a model may say in the place of what it was to forget."""

from __future__ import annotations

from functools import cache
from importlib.resources import files

__all__ = ["shipped_refusals"]


@cache
def shipped_refusals() -> tuple[str, ...]:
    """The refusals of the package, one a line of its file."""
    text = (files("oubliette.data") / "banks" / "refusals.txt").read_text(encoding="utf-8")
    return tuple(line for line in text.splitlines() if line and not line.startswith("#"))
