"""`oubliette world`: the embedded worlds of pictures and of text, and the models trained on them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from oubliette.commands import numbers, show
from oubliette.commands.erase import Json
from oubliette.core.errors import UserError

app = typer.Typer(
    help="The embedded worlds of pictures and of text: draw, write, train their models, check them.",
    no_args_is_help=True,
    rich_markup_mode=None,
    epilog=(
        "\b\nExamples:\n"
        "  oubliette world draw --out world.png\n"
        "  oubliette world text --out facts\n"
        "  oubliette world records --out records\n"
        "  oubliette world check --n 200\n"
        "  oubliette world check --text\n"
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


@app.command(
    "text",
    epilog=(
        "\b\nExample:\n"
        "  oubliette world text --out facts\n"
        "  oubliette erase --model nano-lm --forget facts/forget.jsonl --retain facts/retain.jsonl "
        "--method npo --out gone"
    ),
)
def text(
    out: Annotated[Path, typer.Option(help="New folder of JSONL files.", show_default=False)],
    forget: Annotated[
        str, typer.Option(help="Forget set: default (for reporting) or development (for tuning).")
    ] = "default",
    size: Annotated[int, typer.Option(help="Entities; the embedded models know 120.", min=1)] = 120,
    seed: Annotated[
        int, typer.Option(help="Seed; the embedded models know 0.", min=0, callback=numbers.seed)
    ] = 0,
) -> int:
    """Write the text world's facts: what to forget, what to retain, what attackers have, what is measured."""
    from oubliette.workflows.world.text import write_text_world

    typer.echo(write_text_world(out, forget=forget, size=size, seed=seed))
    return 0


@app.command(
    "records",
    epilog=(
        "\b\nExamples:\n"
        "  oubliette world records --out records\n"
        "  oubliette world records --out records --forget 300 --retain 300 --duplicates 60 --seed 1"
    ),
)
def records(
    out: Annotated[Path, typer.Option(help="New folder of JSONL files.", show_default=False)],
    forget: Annotated[int, typer.Option(help="Records to be forgotten.", min=1)] = 60,
    retain: Annotated[int, typer.Option(help="Records that must stay.", min=1)] = 60,
    duplicates: Annotated[
        int, typer.Option(help="Copies put among the requests, every second one exact.", min=0)
    ] = 0,
    seed: Annotated[int, typer.Option(help="Seed.", min=0, callback=numbers.seed)] = 0,
) -> int:
    """Write invented records for streams of requests: persons, papers, poems, code and rumours."""
    from oubliette.workflows.world.records import write_records

    typer.echo(write_records(out, forget=forget, retain=retain, duplicates=duplicates, seed=seed))
    return 0


@app.command(
    "check", epilog="\b\nExamples:\n  oubliette world check --n 1000\n  oubliette world check --text"
)
def check(
    n: Annotated[int | None, typer.Option(help="Pictures a bar; 1000 where left out.", min=1)] = None,
    seed: Annotated[int, typer.Option(help="Seed.", min=0, callback=numbers.seed)] = 0,
    model: Annotated[
        str | None, typer.Option(help="The model to be measured; nano (nano-lm with --text) where left out.")
    ] = None,
    text: Annotated[bool, typer.Option("--text", help="The language models, on all facts.")] = False,
    json: Json = False,
) -> int:
    """Measure every bar the embedded models must meet; exit code 1 where one fails."""
    from oubliette.workflows.world.check import check as check_pictures
    from oubliette.workflows.world.check_text import check_text

    if text and n is not None:
        raise UserError("--n counts pictures: --text measures all facts; leave it out")
    found = check_text(seed, model or "nano-lm") if text else check_pictures(n or 1000, seed, model or "nano")
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
        "  oubliette world train --text --cache runs/text --out runs/text-models\n"
        "  oubliette world train --data PICTURES --size 32 --cache runs/mine --out runs/my-models"
    ),
)
def train(
    stage: Annotated[
        list[str] | None, typer.Argument(help="tokenizer, vae, text, oracle ...; all where none is named.")
    ] = None,
    text: Annotated[
        bool, typer.Option("--text", help="The language models: tokenizer, stem, nano-lm, nano-lm-gold.")
    ] = False,
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
    if text:
        from oubliette.workflows.world.training.language import train_language

        if data is not None or group:
            raise UserError("--text trains on the text world; leave --data and --group out")
        typer.echo(train_language(stage or [], cache, out))
        return 0
    from oubliette.workflows.world.draw import train_world

    typer.echo(train_world(stage or [], cache, out, data=data, side=size, seed=seed, groups=group or []))
    return 0
