"""`oubliette world`: the embedded picture world and the models trained on it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from oubliette.commands import numbers, show
from oubliette.commands.erase import Json

app = typer.Typer(
    help="The embedded picture world: draw it, train its models, check them.",
    no_args_is_help=True,
    rich_markup_mode=None,
    epilog=(
        "\b\nExamples:\n"
        "  oubliette world draw --out world.png\n"
        "  oubliette world check --n 200\n"
        "  oubliette world train --cache runs/world --out runs/world-models"
    ),
)


@app.command("draw", epilog="\b\nExample:\n  oubliette world draw --out world.png --n 100 --seed 1")
def draw(
    out: Annotated[Path, typer.Option(help="New PNG.", show_default=False)],
    n: Annotated[int, typer.Option(help="Pictures.", min=1)] = 64,
    seed: Annotated[int, typer.Option(help="Seed.", min=0, callback=numbers.seed)] = 0,
) -> int:
    """Draw a sheet of world pictures: what the models were trained on."""
    from oubliette.workflows.world.draw import world_sheet

    typer.echo(world_sheet(out, n=n, seed=seed))
    return 0


@app.command("check", epilog="\b\nExample:\n  oubliette world check --n 1000")
def check(
    n: Annotated[int, typer.Option(help="Pictures a bar.", min=1)] = 1000,
    seed: Annotated[int, typer.Option(help="Seed.", min=0, callback=numbers.seed)] = 0,
    model: Annotated[str, typer.Option(help="The model that is to follow its prompts.")] = "nano",
    json: Json = False,
) -> int:
    """Measure every bar the embedded models must meet; exit code 1 where one fails."""
    from oubliette.workflows.world.check import check as measure

    found = measure(n, seed, model)
    if json:
        show.as_json(found)
    else:
        typer.echo(show.bars(found["bars"]))
    return 0 if all(bar["passed"] for bar in found["bars"]) else 1


@app.command(
    "train",
    epilog=(
        "\b\nExamples:\n"
        "  oubliette world train --cache runs/world --out runs/world-models\n"
        "  oubliette world train --data PICTURES --size 32 --cache runs/mine --out runs/my-models"
    ),
)
def train(
    stage: Annotated[
        list[str] | None, typer.Argument(help="tokenizer, vae, text, oracle ...; all where none is named.")
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="Your own pictures: parquet, or a folder with a subfolder a class.")
    ] = None,
    size: Annotated[int, typer.Option(help="Side of your own pictures in pixels.", min=1)] = 32,
    seed: Annotated[
        int, typer.Option(help="Seed of a training on your own pictures.", min=0, callback=numbers.seed)
    ] = 0,
    group: Annotated[
        list[str] | None,
        typer.Option(help="A broader word for some of your classes, animal=cat,dog; may be repeated."),
    ] = None,
    cache: Annotated[Path, typer.Option(help="Folder for checkpoints; a run goes on from there.")] = Path(
        "runs/world"
    ),
    out: Annotated[Path | None, typer.Option(help="Folder for the finished models.")] = None,
) -> int:
    """Train the world's models from scratch, or their like on your own pictures."""
    from oubliette.workflows.world.draw import train_world

    typer.echo(train_world(stage or [], cache, out, data=data, side=size, seed=seed, groups=group or []))
    return 0
