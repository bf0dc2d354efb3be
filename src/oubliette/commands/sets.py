"""The options that name sets of questions and answers, alike on every command that measures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["Forget", "Other", "Retain"]

Forget = Annotated[
    Path | None,
    typer.Option(help="Of a model that answers: the rows it was to forget; by default its record's."),
]
Retain = Annotated[
    Path | None, typer.Option(help="Of a model that answers: rows like them that must stay; as above.")
]
Other = Annotated[Path | None, typer.Option(help="Of a model that answers: rows of other matters.")]
