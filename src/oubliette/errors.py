"""The one error a user can cause, and the nearest right name for a wrong one."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

__all__ = ["UserError", "suggest"]

_LISTED = 24


class UserError(Exception):
    """Input that cannot be used: one line saying what, where, what was found and what would be right.

    The command line prints the line and ends with exit code 2; nothing half-written is left behind.
    """


def suggest(name: str, options: Iterable[str]) -> str:
    """Name the option nearest to `name`, then the known ones: "did you mean 'x'? known: a, b, c"."""
    known = sorted(set(options))
    near = get_close_matches(name, known, n=1, cutoff=0.5)
    if not near:
        folded = {option.lower(): option for option in known}
        near = [folded[match] for match in get_close_matches(name.lower(), folded, n=1, cutoff=0.5)]
    listed = ", ".join(known[:_LISTED]) + (f", ... ({len(known)} in all)" if len(known) > _LISTED else "")
    return (f"did you mean '{near[0]}'? " if near else "") + f"known: {listed or 'none'}"
