"""`oubliette protocol`: the field's own protocols."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from oubliette.commands import numbers, show
from oubliette.commands.erase import Json, Judge
from oubliette.commands.grouped import Grouped

app = typer.Typer(
    help="The field's own protocols, on models of yours and the embedded ones.",
    no_args_is_help=True,
    rich_markup_mode=None,
    epilog=(
        "\b\nExamples:\n"
        "  oubliette protocol canvas --model car-free --model nano --concept car\n"
        "  oubliette protocol classes --model church-free --prompts imagenette.csv --erased church \\\n"
        "      --judge classifier:microsoft/resnet-50\n"
        "  oubliette protocol harmonic --model car-free --concept car\n"
        "  oubliette protocol cer --model car-free --concept car --concept truck"
    ),
)

Models = Annotated[
    list[str] | None, typer.Option("--model", help="A model to measure; repeatable.", show_default=False)
]
Concept = Annotated[str | None, typer.Option(help="What was erased; by default as the model's record says.")]
Kind = Annotated[str | None, typer.Option(help="object, style or person.")]
Steps = Annotated[int, typer.Option(help="Sampling steps.", min=1)]
Guidance = Annotated[float, typer.Option(help="Guidance scale.", min=0, callback=numbers.finite)]
Cache = Annotated[
    Path | None, typer.Option(help="Folder in which pictures are kept; a run cut short goes on from it.")
]
Out = Annotated[Path | None, typer.Option(help="New JSON file for the figures.")]


@app.command(
    "canvas",
    cls=Grouped,
    epilog=(
        "\b\nExamples:\n"
        "  oubliette protocol canvas --model car-free --model nano --concept car\n"
        "  oubliette protocol canvas --folder answers --concept Abstractionism --kind style \\\n"
        "      --judge classifier:STYLES --judge classifier:OBJECTS"
    ),
)
def canvas(
    model: Models = None,
    concept: Concept = None,
    kind: Kind = None,
    folder: Annotated[
        Path | None, typer.Option(help="A folder of answers, STYLE_OBJECT_seedN.jpg, in place of a model.")
    ] = None,
    judge: Judge = None,
    styles: Annotated[
        str | None, typer.Option(help="The grid's styles: names with commas, or a file with one a line.")
    ] = None,
    objects: Annotated[str | None, typer.Option(help="The grid's objects, likewise.")] = None,
    seed: Annotated[
        list[int] | None, typer.Option(help="Seeds of a cell; by default the benchmark's five.", min=0)
    ] = None,
    form: Annotated[
        str | None, typer.Option(help="The prompt; by default 'An {object} image in {style} style.'")
    ] = None,
    reference: Annotated[
        Path | None, typer.Option(help="Folder of pictures to take a FID against (5,000 a side).")
    ] = None,
    steps: Steps = 25,
    guidance: Guidance = 3.0,
    cache: Cache = None,
    out: Out = None,
    json: Json = False,
) -> int:
    """UnlearnCanvas: UA, IRA and CRA over a grid of objects and styles."""
    from oubliette.workflows.protocols import canvas as measure

    found = measure(
        model or (),
        concept,
        kind=kind,
        folder=folder,
        judges=judge,
        styles=styles,
        objects=objects,
        seeds=seed,
        prompt=form,
        reference=reference,
        steps=steps,
        guidance=guidance,
        cache=cache,
        out=out,
    )
    return _shown(found, ["UA", "IRA", "CRA", "AA"], json)


@app.command(
    "classes",
    cls=Grouped,
    epilog=(
        "\b\nExample:\n"
        "  oubliette protocol classes --model church-free --prompts imagenette.csv --erased church \\\n"
        "      --judge classifier:microsoft/resnet-50"
    ),
)
def classes(
    prompts: Annotated[
        Path, typer.Option(help="CSV with prompt, evaluation_seed, class.", show_default=False)
    ],
    erased: Annotated[
        list[str], typer.Option(help="A class of the table that was erased; repeatable.", show_default=False)
    ],
    model: Models = None,
    kind: Annotated[str, typer.Option(help="What the classes are: object, style or person.")] = "object",
    judge: Judge = None,
    steps: Steps = 25,
    guidance: Guidance = 3.0,
    cache: Cache = None,
    out: Out = None,
    json: Json = False,
) -> int:
    """Imagenette's: top-1 accuracy of the erased class and of the others, on a table of seeded prompts."""
    from oubliette.workflows.protocols import classes as measure

    how: dict[str, Any] = {"steps": steps, "guidance": guidance, "cache": cache, "out": out}
    found = measure(model or (), prompts, erased, kind=kind, judges=judge, **how)
    return _shown(found, ["accuracy", "ESR", "PSR"], json)


@app.command(
    "harmonic",
    cls=Grouped,
    epilog="\b\nExample:\n  oubliette protocol harmonic --model car-free --concept car",
)
def harmonic(
    model: Models = None,
    concept: Concept = None,
    kind: Kind = None,
    judge: Judge = None,
    n: Annotated[int, typer.Option(help="Pictures of the concept and of its synonyms.", min=1)] = 50,
    seed: Annotated[
        int, typer.Option(help="Seed of prompts and pictures.", min=0, callback=numbers.seed)
    ] = 0,
    steps: Steps = 25,
    guidance: Guidance = 3.0,
    cache: Cache = None,
    out: Out = None,
    json: Json = False,
) -> int:
    """MACE's: the harmonic mean of erased, kept and generalised."""
    from oubliette.workflows.protocols import harmonic as measure

    how: dict[str, Any] = {"steps": steps, "guidance": guidance, "cache": cache, "out": out}
    found = measure(model or (), concept, kind=kind, judges=judge, n=n, seed=seed, **how)
    return _shown(found, ["H", "Acc_e", "Acc_s", "Acc_g"], json)


@app.command(
    "cer",
    cls=Grouped,
    epilog=(
        "\b\nExamples:\n"
        "  oubliette protocol cer --model car-free --concept car --concept truck\n"
        "  oubliette protocol cer --model DIR --concept snoopy --judge clip:ViT-B-32/laion2b_s34b_b79k \\\n"
        "      --templates imagenet-templates.txt"
    ),
)
def cer(
    model: Models = None,
    concept: Annotated[
        list[str] | None, typer.Option(help="A concept; by default as the model's record says; repeatable.")
    ] = None,
    anchor: Annotated[list[str] | None, typer.Option(help="The broader concept: one, or one each.")] = None,
    kind: Annotated[list[str] | None, typer.Option(help="object, style or person.")] = None,
    judge: Annotated[str | None, typer.Option(help="clip:MODEL; by default the CLIP of the world.")] = None,
    templates: Annotated[
        Path | None, typer.Option(help="Your own templates, one a line with a slot {}; else eight a kind.")
    ] = None,
    each: Annotated[int, typer.Option(help="Pictures a template.", min=1)] = 10,
    against: Annotated[str, typer.Option(help="empty (the empty text) or anchor.")] = "empty",
    seed: Annotated[int, typer.Option(help="Seed of the pictures.", min=0, callback=numbers.seed)] = 0,
    steps: Steps = 25,
    guidance: Guidance = 3.0,
    cache: Cache = None,
    out: Out = None,
    json: Json = False,
) -> int:
    """SPM's: how often CLIP finds the concept no more in its own pictures, and CLIPScore."""
    from oubliette.workflows.protocols import cer as measure

    found = measure(
        model or (),
        concept or (),
        anchors=anchor or (),
        kinds=kind or (),
        judge=judge,
        templates=templates,
        each=each,
        against=against,
        seed=seed,
        steps=steps,
        guidance=guidance,
        cache=cache,
        out=out,
    )
    return _shown(found, ["CER", "CLIPScore"], json)


def _shown(found: list[dict[str, Any]], columns: list[str], json: bool) -> int:
    if json:
        show.as_json(found)
        return 0
    from oubliette.eval.protocols.rows import notes, rows

    typer.echo(show.columns([["model", "concept", "judge", *columns], *rows(found)]))
    for line in notes(found):
        typer.echo(line)
    return 0
