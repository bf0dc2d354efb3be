"""`oubliette sample`, `validate` and `ls`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from oubliette.commands import numbers, show
from oubliette.commands.erase import Json, Set

SAMPLE_EXAMPLES = (
    "\b\nExamples:\n"
    "  oubliette sample --model nano --prompt 'a car in neon style' --prompt 'a truck' --out sheet.png\n"
    "  oubliette sample --model LANGUAGE_MODEL --prompt 'Who painted the red door?'"
)
VALIDATE_EXAMPLES = "\b\nExamples:\n  oubliette validate my-recipe.yaml\n  oubliette validate doco-nano"
LS_EXAMPLES = "\b\nExamples:\n  oubliette ls\n  oubliette ls recipes --json"


def sample(
    model: Annotated[str, typer.Option(help="Embedded name, folder or Hub id.", show_default=False)],
    prompt: Annotated[
        list[str] | None, typer.Option(help="A prompt; repeatable.", show_default=False)
    ] = None,
    out: Annotated[Path | None, typer.Option(help="New PNG: a row a prompt, a column a seed.")] = None,
    n: Annotated[int, typer.Option(help="Pictures a prompt.", min=1)] = 4,
    seed: Annotated[int, typer.Option(help="First seed.", min=0, callback=numbers.seed)] = 0,
    steps: Annotated[int, typer.Option(help="Sampling steps.", min=1)] = 25,
    guidance: Annotated[float, typer.Option(help="Guidance scale.", min=0, callback=numbers.finite)] = 3.0,
    tokens: Annotated[int, typer.Option(help="Longest answer of a language model.", min=1)] = 64,
    json: Json = False,
) -> int:
    """Draw pictures, or answer prompts."""
    from oubliette.workflows.sample import sample as make

    found = make(model, prompt or (), out=out, n=n, seed=seed, steps=steps, guidance=guidance, tokens=tokens)
    if json:
        show.as_json(found)
    else:
        typer.echo("\n".join(found["answers"]) if "answers" in found else found["out"])
    return 0


def validate(
    recipe: Annotated[str, typer.Argument(help="A recipe's file or a preset's name.")],
    set_: Set = None,
    json: Json = False,
) -> int:
    """Check a recipe: its keys, its names, its parts' own options."""
    from oubliette.recipe import load_recipe
    from oubliette.recipe import validate as check

    found = check(load_recipe(recipe, set_ or ()))
    if json:
        show.as_json(found.model_dump(mode="json"))
    else:
        typer.echo(f"{recipe}: valid")
    return 0


def ls(
    what: Annotated[
        str | None,
        typer.Argument(
            help="methods, recipes, scopes, surgeries, smoothers, policies, judges, metrics, attacks, "
            "learners, models."
        ),
    ] = None,
    json: Json = False,
) -> int:
    """List what there is to choose from."""
    from oubliette.workflows.listing import LISTS, listing

    found = {name: listing(name) for name in ([what] if what else LISTS)}
    if json:
        show.as_json(found[what] if what else found)
    elif what:
        typer.echo(show.pairs(found[what]))
    else:
        typer.echo("\n\n".join(f"{name}:\n{show.pairs(content)}" for name, content in found.items()))
    return 0
