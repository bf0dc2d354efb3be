"""A benchmark's folder: it remembers which plan its cells are of."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from oubliette.errors import UserError
from oubliette.manifest import read_object, refuse_existing, write_json
from oubliette.writing import make_parents, writing

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
    if not out.is_dir():
        refuse_existing(out)
        make_parents(out)
    with writing(out):
        out.mkdir(exist_ok=True)
    write_json(path, facts)
