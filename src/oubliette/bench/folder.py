"""A benchmark's folder: it remembers which plan its cells are of."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from oubliette.errors import UserError
from oubliette.manifest import read_object, write_json

__all__ = ["claim"]

_FACTS = "plan.json"


def claim(out: Path, facts: dict[str, Any], differs: Callable[[dict[str, Any]], str | None]) -> None:
    """Write the plan's `facts` into `out`, made where it is not there.

    `differs` is given the facts that lie there already and names the part in which they are of another
    benchmark, None where they are of this one. UserError then, and for a folder that holds other things.
    """
    path = out / _FACTS
    if path.is_file():
        part = differs(read_object(path))
        if part is not None:
            raise UserError(f"{out}: was begun with another {part}; name another folder")
    elif out.is_dir() and any(out.iterdir()):
        raise UserError(f"{out}: exists already and holds no benchmark; name another folder")
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{out}: cannot be made ({error.strerror or error})") from error
    write_json(path, facts)
