"""The options that name sets of questions and answers, alike on every command that measures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from oubliette.core.errors import UserError

if TYPE_CHECKING:
    from oubliette.backends.prompting import Prompting

__all__ = ["Forget", "Other", "Retain", "Shots", "System", "Template", "named_files", "prompting"]

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


System = Annotated[
    str | None, typer.Option(help="Of a model that answers: the system's text before each question.")
]
Shots = Annotated[
    Path | None, typer.Option(help="Of a model that answers: rows, answered before each question.")
]
Template = Annotated[
    str | None,
    typer.Option(help="Of a model that answers: chat, none, or auto: its chat template where it has one."),
]


def prompting(system: str | None, shots: Path | None, template: str | None) -> Prompting | None:
    """How questions are put, None where nothing says; UserError for another template and rows of no use."""
    if system is None and shots is None and template is None:
        return None
    from oubliette.backends.prompting import Prompting
    from oubliette.core.validation import validated
    from oubliette.data.questions import read_questions

    rows = [] if shots is None else [row for row in read_questions(shots) if not row.plain]
    if shots is not None and not rows:
        raise UserError(f"--shots {shots}: holds no question with an answer")
    said = {"system": system, "shots": tuple((row.question, row.answer) for row in rows)}
    return validated(Prompting, {**said, "template": template or "auto"}, "how questions are put")


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
