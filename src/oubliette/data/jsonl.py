"""JSON lines: one object a line, with a word on where a bad one stands."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from oubliette.errors import UserError

__all__ = ["objects"]


def objects(path: Path, lines: Iterable[str], expected: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """("PATH, line N", object) of every line that is not blank; UserError for one that is no JSON object.

    `expected` ends the sentence "found a list, expected ...".
    """
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        try:
            content = json.loads(line)
        except (json.JSONDecodeError, RecursionError) as error:
            raise UserError(f"{where}: not JSON ({error})") from error
        if not isinstance(content, dict):
            raise UserError(f"{where}: found a {type(content).__name__}, expected {expected}")
        yield where, content
