"""The options that name sets of questions and answers, alike on every command that measures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from oubliette.core.errors import UserError

__all__ = ["Forget", "Other", "Retain", "named_files"]

Forget = Annotated[
    Path | None,
    typer.Option(
        help="Of a model that answers: the rows it was to forget, a file or OWNER/NAME:SPLIT of the Hub; by "
        "default its record's."
    ),
]
Retain = Annotated[
    Path | None, typer.Option(help="Of a model that answers: rows like them that must stay; as above.")
]
Other = Annotated[Path | None, typer.Option(help="Of a model that answers: rows of other matters.")]


def named_files(given: Sequence[str]) -> dict[str, Path]:
    """NAME=FILE by name; UserError for what is not written so, and for a name given twice."""
    found: dict[str, Path] = {}
    for each in given:
        name, equals, path = each.partition("=")
        if not (name and equals and path):
            raise UserError(f"--rows {each!r}: expected NAME=FILE, such as holdout=holdout.jsonl")
        if name in found:
            raise UserError(f"--rows {name}: is given twice")
        found[name] = Path(path)
    return found
