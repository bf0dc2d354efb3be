"""The numbers of a run: one JSON line a logged step, in a file and in memory."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from oubliette.core.writing import draft, writing

__all__ = ["RunLog"]


class RunLog:
    """Appends one record a line; without a path, or on a process that does not write, in memory alone."""

    def __init__(self, path: Path | str | None) -> None:
        self.path = None if path is None else Path(path)
        self.records: list[dict[str, Any]] = []

    def rewind(self, step: int) -> None:
        """Forget what was logged after `step` (a run killed later than its checkpoint); 0 forgets all."""
        self.records = [record for record in self.records if record["step"] <= step]
        if self.path is None:
            return
        with writing(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
        if step and not self.records and self.path.is_file():
            self.records = [record for record in _readable(self.path) if record["step"] <= step]
        with draft(self.path) as temporary:
            temporary.write_text("".join(map(_line, self.records)), encoding="utf-8")

    def write(self, record: dict[str, Any]) -> None:
        """Append a record; it is in the file when this returns."""
        self.records.append(record)
        if self.path is not None:
            with writing(self.path), self.path.open("a", encoding="utf-8") as file:
                file.write(_line(record))


def _line(record: dict[str, Any]) -> str:
    return json.dumps(_plain(record), allow_nan=False) + "\n"


def _plain(value: Any) -> Any:
    """JSON has no NaN and no infinity: null stands for both."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _readable(path: Path) -> list[dict[str, Any]]:
    """The records of a log; a last line that a kill cut short is left out."""
    records = []
    for line in path.read_text(encoding="utf-8").splitlines(keepends=True):
        if line.endswith("\n"):
            records.append(json.loads(line))
    return records
