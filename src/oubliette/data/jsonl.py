"""JSON lines, a JSON array of objects, or a parquet table, with a word on where a bad one stands."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from oubliette.core.errors import UserError

__all__ = ["objects", "read_lines", "read_objects"]


def read_objects(path: Path, expected: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """`objects` of a file in UTF-8, or the rows of a `.parquet` file; UserError for one that cannot be read.

    Cells of a table that are null are left out, as a JSON object would leave their keys out.
    """
    if path.suffix.lower() == ".parquet":
        yield from _table(path)
        return
    yield from objects(path, _text(path), expected)


def read_lines(path: Path) -> Iterator[tuple[str, Any]]:
    """("PATH, line N", what it says) of every line that is not blank; UserError for one that is no JSON."""
    yield from _lines(path, _text(path))


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error})") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: is not text in UTF-8 (byte {error.start})") from error


def objects(path: Path, text: str, expected: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """("PATH, line N", object) of every line that is not blank, or ("PATH, row N", object) of an array.

    A text that begins with "[" is an array. UserError for what is no JSON object; `expected` ends the
    sentence "found a list, expected ...".
    """
    array = text.lstrip().startswith("[")
    for where, content in _array(path, text) if array else _lines(path, text):
        if not isinstance(content, dict):
            raise UserError(f"{where}: found a {type(content).__name__}, expected {expected}")
        yield where, content


def _table(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    try:
        from pyarrow import ArrowException, parquet
    except ImportError as error:
        raise UserError(f"{path}: reading parquet needs pyarrow; pip install 'oubliette[parquet]'") from error
    number = 0
    try:
        with parquet.ParquetFile(path) as table:
            for batch in table.iter_batches():
                for row in batch.to_pylist():
                    number += 1
                    said = {key: cell for key, cell in row.items() if cell is not None}
                    yield f"{path}, row {number}", said
    except (OSError, ArrowException) as error:
        found = (getattr(error, "strerror", None) or str(error)).splitlines()[0]
        raise UserError(f"{path}: cannot be read as parquet ({found})") from error


def _array(path: Path, text: str) -> Iterator[tuple[str, Any]]:
    for number, content in enumerate(_parsed(str(path), text), start=1):
        yield f"{path}, row {number}", content


def _lines(path: Path, text: str) -> Iterator[tuple[str, Any]]:
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            yield f"{path}, line {number}", _parsed(f"{path}, line {number}", line.strip())


def _parsed(where: str, text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        place = f"column {error.colno}" if "\n" not in text else f"line {error.lineno}, column {error.colno}"
        raise UserError(f"{where}: not JSON ({error.msg}, {place})") from error
    except (RecursionError, ValueError) as error:  # nested too deeply, or a number of too many digits
        raise UserError(f"{where}: not JSON that can be read ({str(error).split(';')[0]})") from error
