"""Tables of a user's: every CSV file of the package is read here, and the field's prompt tables with them."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from oubliette.core.errors import UserError
from oubliette.core.validation import MAX_SEED
from oubliette.data.text import check_text

COLUMNS = ("case_number", "prompt", "evaluation_seed")


@dataclass(frozen=True)
class PromptRow:
    """One row: its case number, the prompt, the seed it is drawn with, and whatever other columns it has."""

    case: int
    prompt: str
    seed: int
    extra: dict[str, str] = field(default_factory=dict)


def read_prompts(path: Path | str) -> list[PromptRow]:
    """Read a prompt table as the papers of the field ship it (ESD, UCE, SalUn, RECE): the columns
    `case_number, prompt, evaluation_seed`.

    Other columns are kept as text in `extra`; a nameless index column is left out; blank lines are skipped.
    Raises UserError, naming file, line and column, for a missing column, a prompt that is empty, a number
    that is none, a row of another length, and a table without rows.
    """
    return [_row(where, values) for where, values in read_table(path, COLUMNS)]


def read_table(path: Path | str, columns: Sequence[str]) -> list[tuple[str, dict[str, str]]]:
    """Rows of a CSV that has these columns and perhaps others: where each stands, and its cells by column.

    Raises UserError, naming file and line, for a missing column, one that is there twice, a row of more or
    fewer cells than the header, a control character in one of `columns`, and a table without rows.
    """
    path = Path(path)
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            return _rows(path, csv.reader(file, strict=True), columns)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error})") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: is not text in UTF-8 (byte {error.start})") from error


def _rows(path: Path, reader: Any, columns: Sequence[str]) -> list[tuple[str, dict[str, str]]]:
    rows: list[tuple[str, dict[str, str]]] = []
    header: list[str] | None = None
    try:
        for cells in reader:
            if not any(cell.strip() for cell in cells):
                continue
            if header is None:
                header = _header(path, cells, columns)
                continue
            rows.append(_cells(f"{path}, line {reader.line_num}", header, cells, columns))
    except csv.Error as error:
        raise UserError(f"{path}, line {reader.line_num}: not a CSV row ({error})") from error
    if not rows:
        raise UserError(
            f"{path}: holds no rows; expected the columns {', '.join(columns)} and rows below them"
        )
    return rows


def _header(path: Path, cells: list[str], columns: Sequence[str]) -> list[str]:
    names = [cell.strip() for cell in cells]
    missing = [column for column in columns if column not in names]
    if missing:
        raise UserError(
            f"{path}: no column '{missing[0]}'; found {', '.join(name or '(no name)' for name in names)}; "
            f"expected {', '.join(columns)}"
        )
    twice = sorted({name for name in names if name and names.count(name) > 1})
    if twice:
        raise UserError(f"{path}: the column '{twice[0]}' is there twice")
    return names


def _cells(
    where: str, header: list[str], cells: list[str], columns: Sequence[str]
) -> tuple[str, dict[str, str]]:
    if len(cells) != len(header):
        hint = (
            '; a text with a comma in it stands in quotes: "a car, red"' if len(cells) > len(header) else ""
        )
        raise UserError(f"{where}: has {len(cells)} cells, expected {len(header)} as in the header{hint}")
    values = dict(zip(header, cells, strict=True))
    for column in columns:
        check_text(values[column], f"{where}: {column}")
    return where, values


def _row(where: str, values: dict[str, str]) -> PromptRow:
    prompt = values["prompt"].strip()
    if not prompt:
        raise UserError(f"{where}: the prompt is empty")
    extra = {name: value for name, value in values.items() if name and name not in COLUMNS}
    case = whole_number(where, "case_number", values["case_number"])
    return PromptRow(case, prompt, seed_in(where, "evaluation_seed", values["evaluation_seed"]), extra)


def seed_in(where: str, column: str, text: str) -> int:
    """The seed that a cell holds; UserError for what is no whole number in 0..2^63-1."""
    seed = whole_number(where, column, text)
    if not 0 <= seed <= MAX_SEED:
        raise UserError(f"{where}: {column} must lie in 0..2^63-1, found {seed}")
    return seed


def whole_number(where: str, column: str, text: str) -> int:
    """The whole number that a cell holds; UserError for what is none."""
    try:
        # Tables that went through pandas with gaps carry whole numbers as 12.0.
        number = float(text) if "." in text else int(text)
        if number != int(number):
            raise ValueError
        return int(number)
    except (ValueError, OverflowError):
        raise UserError(f"{where}: {column} must be a whole number, found {text.strip()!r}") from None
