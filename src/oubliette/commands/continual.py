"""`oubliette continual`: a classifier that learns task after task."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from oubliette.commands import numbers, show
from oubliette.commands.erase import Json, Set

app = typer.Typer(
    help="Learn task after task: replay, regularisation, refresh.",
    no_args_is_help=True,
    rich_markup_mode=None,
    epilog=(
        "\b\nExamples:\n"
        "  oubliette continual run --data PICTURES --tasks 5x2 --method der++ --out learned\n"
        "  oubliette continual run --data PICTURES --tasks 5x2 --method er --refresh released --out refreshed"
    ),
)

_EXAMPLES = (
    "\b\nExamples:\n"
    "  oubliette continual run --data PICTURES --tasks 5x2 --method der++ --refresh released --out learned\n"
    "  oubliette continual run --data PICTURES --tasks 5x2 --method mine.yaml --set epochs=5 --out mine\n"
    "  oubliette continual run --data PICTURES --refresh paper --set refresh.gamma=1e-4 --out paper"
)


@app.callback()
def continual() -> None:
    """Learn task after task: replay, regularisation, refresh."""


@app.command("run", epilog=_EXAMPLES)
def run(
    data: Annotated[
        Path, typer.Option(help="Folder of pictures with a class each, or parquet.", show_default=False)
    ],
    out: Annotated[
        Path, typer.Option(help="New folder for the classifier and its record.", show_default=False)
    ],
    tasks: Annotated[str, typer.Option(help="TASKSxCLASSES, in the order of the classes' names.")] = "5x2",
    method: Annotated[str, typer.Option(help="A name (oubliette ls continual) or a YAML file.")] = "der++",
    refresh: Annotated[str, typer.Option(help="none, released or paper.")] = "none",
    buffer: Annotated[int, typer.Option(help="Rows that are kept for replay.", min=0)] = 200,
    seed: Annotated[int, typer.Option(help="Seed.", min=0, callback=numbers.seed)] = 0,
    set_: Set = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a run that was cut short.")] = False,
    json: Json = False,
) -> int:
    """Learn every task with one method, and measure each after each."""
    from oubliette.core.numbers import percent
    from oubliette.core.progress import counted
    from oubliette.core.validation import settings as changes
    from oubliette.workflows.continual_learning import run_tasks, settings_of

    given = {"tasks": tasks, "method": method, "buffer": buffer, "seed": seed}
    wanted = settings_of(refresh, given, changes(set_ or ()))
    with counted("continual", "tasks") as tick:
        found = run_tasks(data, out, wanted, resume=resume, progress=tick)
    if json:
        show.as_json(found)
    else:
        rows = [["after", *(f"task {n + 1}" for n in range(len(found["class_il"][0])))]]
        rows += [
            [f"task {n}" if n else "nothing", *(percent(share) for share in row)]
            for n, row in enumerate(found["class_il"])
        ]
        typer.echo(show.columns(rows))
        typer.echo(show.pairs({name: f"{value:.4g}" for name, value in found["figures"].items()}))
        typer.echo(f"saved    {out}")
    return 0
