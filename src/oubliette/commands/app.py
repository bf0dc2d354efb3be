"""The commands and what each is called."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import typer

from oubliette import __version__
from oubliette.commands import (
    attack,
    audit,
    bench,
    continual,
    erase,
    evaluate,
    explore,
    guard,
    protocol,
    world,
)
from oubliette.commands.grouped import Grouped

app = typer.Typer(
    name="oubliette",
    help="Make a generative model forget a concept, and measure whether it did.",
    epilog=(
        "\b\nExamples:\n"
        "  oubliette demo\n"
        "  oubliette erase --model nano --concept car --method doco --out car-free\n"
        "  oubliette eval --model car-free --control gold\n"
        "  oubliette sample --model car-free --prompt 'a picture of a car' --out car.png\n"
        "\b\nExit codes: 0 done, 1 the verdict is negative, 2 bad input, 3 could not tell,\n"
        "4 a fault of the program. What to do for each kind of message: docs/errors.md"
    ),
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


_debug = False


def _version(asked: bool) -> None:
    if asked:
        typer.echo(__version__)
        raise typer.Exit


def _set_debug(asked: bool) -> None:
    global _debug
    _debug = asked


def debug() -> bool:
    """Whether the last command line asked for tracebacks."""
    return _debug


def command_of(arguments: Sequence[str]) -> list[str]:
    """The words of a command line that name the command: ["guard", "learn"]."""
    found: list[str] = []
    at: Any = typer.main.get_command(app)
    for word in arguments:
        if not word.startswith("-"):
            at = getattr(at, "commands", {}).get(word)
            if at is None:
                break
            found.append(word)
    return found


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
    debug: Annotated[
        bool,
        typer.Option(
            "--debug",
            callback=_set_debug,
            is_eager=True,
            help="Print the traceback of an internal error (before the command).",
        ),
    ] = False,
) -> None:
    """Make a generative model forget a concept, and measure whether it did."""


app.command("erase", cls=Grouped, epilog=erase.ERASE_EXAMPLES)(erase.erase)
app.command("eval", cls=Grouped, epilog=evaluate.EXAMPLES)(evaluate.evaluate)
app.command("audit", cls=Grouped, epilog=audit.EXAMPLES)(audit.audit)
app.command("sample", epilog=explore.SAMPLE_EXAMPLES)(explore.sample)
app.command("run", cls=Grouped, epilog=erase.RUN_EXAMPLES)(erase.run)
app.command("validate", epilog=explore.VALIDATE_EXAMPLES)(explore.validate)
app.command("ls", epilog=explore.LS_EXAMPLES)(explore.ls)
app.command("demo", epilog=evaluate.DEMO_EXAMPLES)(evaluate.demo)
app.add_typer(attack.app, name="attack")
app.add_typer(bench.app, name="bench")
app.add_typer(continual.app, name="continual")
app.add_typer(guard.app, name="guard")
app.add_typer(protocol.app, name="protocol")
app.add_typer(world.app, name="world")
