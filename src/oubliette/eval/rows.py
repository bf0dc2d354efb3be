"""What the rows of an evaluation are called."""

from __future__ import annotations

from pathlib import PurePath

__all__ = ["BASE", "RESERVED", "control_name", "row_name"]

#: The base's own row.
BASE = "base"
#: What it was called in files of older versions; still taken on the command line and in plans.
_OLD_BASE = "none"
#: Names that are those of controls, and so of no model under test.
RESERVED = (BASE, _OLD_BASE, "gold", "random weights", "prompt filter")


def control_name(name: str) -> str:
    """A control's name as it is written now."""
    return BASE if name == _OLD_BASE else name


def row_name(source: object) -> str:
    """What the row of a model is called: the last part of its folder or Hub id.

    A folder called as a control is ("gold") does not pass for one: "gold (model)".
    """
    text = str(source)
    name = PurePath(text).name or text
    return f"{name} (model)" if name in RESERVED else name
