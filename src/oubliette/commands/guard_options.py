"""The options that several guard commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from oubliette.commands import numbers

Model = Annotated[str, typer.Option(help="Embedded name, folder or Hub id.", show_default=False)]
MaskFolder = Annotated[Path, typer.Option(help="The mask's folder, or its guard.json.", show_default=False)]
Folder = Annotated[Path, typer.Argument(help="The mask's folder.", show_default=False)]
Out = Annotated[Path, typer.Option(help="Folder for the result; must not exist yet.", show_default=False)]
Budget = Annotated[
    float, typer.Option(help="Share that may be frozen, above 0 and below 1.", callback=numbers.finite)
]
Of = Annotated[str, typer.Option(help="Of what: parameters, or tensors (as published).")]
Licence = Annotated[str | None, typer.Option(help="Hub licence id for the card: openrail++ ...")]
Kind = Annotated[str | None, typer.Option(help="object, style or person, of data from folders.")]
Set = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change an option; repeatable.")
]
