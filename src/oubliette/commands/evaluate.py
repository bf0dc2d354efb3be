"""`oubliette eval` and `oubliette demo`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from oubliette.commands import numbers, show
from oubliette.commands.erase import Json, Judge, Require, Resume
from oubliette.commands.sets import Forget, Other, Retain, Shots, System, Template, named_files, prompting

EXAMPLES = (
    "\b\nExamples:\n"
    "  oubliette eval --model car-free\n"
    "  oubliette eval --model car-free --base nano --concept car --n 100 --control gold --out figures\n"
    "  oubliette eval --model DIR --base DIR0 --concept 'van gogh' --kind style \\\n"
    "      --judge clip:ViT-B-32/laion2b_s34b_b79k --prompts prompts.csv\n"
    "  oubliette eval --model car-free --require-leakage 0.1\n"
    "  oubliette eval --model forgetful --retain retain.jsonl --control gold=NEVER-TAUGHT\n"
    "  oubliette eval --model forgetful --retain retain.jsonl --metric truth_ratio --metric rouge_l\n"
    "  oubliette eval --model forgetful --retain retain.jsonl --control gold=NEVER-TAUGHT \\\n"
    "      --metric forget_quality --metric privleak --rows holdout=holdout.jsonl"
)
DEMO_EXAMPLES = (
    "\b\nExamples:\n"
    "  oubliette demo\n"
    "  oubliette demo --text\n"
    "  oubliette demo --out runs/more --method uce --method ablation --n 32 --seed 1"
)


def evaluate(
    model: Annotated[str, typer.Option(help="The model to measure.", show_default=False)],
    base: Annotated[
        str | None, typer.Option(help="What it was made from; by default as its record says.")
    ] = None,
    concept: Annotated[
        list[str] | None, typer.Option(help="What was erased; by default as its record says.")
    ] = None,
    anchor: Annotated[list[str] | None, typer.Option(help="The broader concept: one, or one each.")] = None,
    kind: Annotated[list[str] | None, typer.Option(help="object, style or person.")] = None,
    forget: Forget = None,
    retain: Retain = None,
    other: Other = None,
    n: Annotated[int, typer.Option(help="Pictures (answers) a concept and split.", min=1)] = 50,
    seed: Annotated[
        int, typer.Option(help="Seed of prompts and pictures.", min=0, callback=numbers.seed)
    ] = 0,
    steps: Annotated[int, typer.Option(help="Sampling steps.", min=1)] = 25,
    guidance: Annotated[float, typer.Option(help="Guidance scale.", min=0, callback=numbers.finite)] = 3.0,
    judge: Judge = None,
    control: Annotated[
        list[str] | None,
        typer.Option(help="gold[=MODEL], 'random weights', 'prompt filter'; repeatable."),
    ] = None,
    prompts: Annotated[
        Path | None, typer.Option(help="CSV with case_number, prompt, evaluation_seed.")
    ] = None,
    cache: Annotated[
        Path | None, typer.Option(help="Folder in which pictures are kept; a run cut short goes on from it.")
    ] = None,
    metric: Annotated[
        list[str] | None,
        typer.Option(help="A further figure of answers (oubliette ls metrics); repeatable.", metavar="NAME"),
    ] = None,
    rows: Annotated[
        list[str] | None,
        typer.Option(help="A further set for metrics, NAME=FILE (holdout=FILE); repeatable."),
    ] = None,
    system: System = None,
    shots: Shots = None,
    template: Template = None,
    out: Annotated[Path | None, typer.Option(help="New folder for figures, samples and page.")] = None,
    require_leakage: Require = None,
    resume: Resume = False,
    json: Json = False,
) -> int:
    """Measure what leaks from a model and what it lost, against its base."""
    from oubliette.workflows.evaluate import measure

    found = measure(
        model,
        base,
        concept,
        anchor,
        kind=kind,
        forget=forget,
        retain=retain,
        other=other,
        n=n,
        seed=seed,
        steps=steps,
        guidance=guidance,
        judges=judge,
        controls=control or (),
        prompts_csv=prompts,
        metrics=metric or (),
        rows=named_files(rows or ()),
        prompting=prompting(system, shots, template),
        cache=cache,
        out=out,
        require_leakage=require_leakage,
        resume=resume,
        command=show.command_line(),
    )
    if json:
        show.as_json(found.evaluation.to_dict())
    else:
        typer.echo(show.table(found.evaluation))
        if found.page is not None:
            typer.echo(f"report: {found.page}")
    return found.exit_code


def demo(
    out: Annotated[
        Path | None, typer.Option(help="New folder; by default runs/demo, or the next that is free.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of everything.", min=0, callback=numbers.seed)] = 0,
    text: Annotated[
        bool, typer.Option("--text", help="A language model that forgets invented facts.")
    ] = False,
    method: Annotated[
        list[str] | None, typer.Option(help="Methods; by default uce and mace (npo and rmu with --text).")
    ] = None,
    n: Annotated[int, typer.Option(help="Pictures (answers) a concept and split.", min=1)] = 64,
    control: Annotated[list[str] | None, typer.Option(help="Controls; by default gold.")] = None,
    save: Annotated[str, typer.Option(help="full or delta.", metavar="FORM")] = "full",
    set_: Annotated[list[str] | None, typer.Option("--set", help="Override a key in every recipe.")] = None,
    json: Json = False,
) -> int:
    """Erase the three default concepts from nano, set the results beside nano and gold, write the page."""
    from oubliette.workflows import demo as pictures
    from oubliette.workflows import demo_text as answers

    show_all, shown = (
        (answers.demo_text, answers.METHODS_SHOWN) if text else (pictures.demo, pictures.METHODS_SHOWN)
    )
    done = show_all(
        out or pictures.free_folder("runs/demo-text" if text else "runs/demo"),
        seed,
        tuple(method or shown),
        n=n,
        controls=tuple(control or ("gold",)),
        form=save,
        overrides=set_ or (),
        command=show.command_line(),
    )
    if json:
        show.as_json(done.facts())
    else:
        typer.echo(show.table(done.evaluation))
        typer.echo(show.pairs({title: str(path) for title, path in done.models.items()}))
        typer.echo(f"report: {done.page} ({done.seconds:.0f} s in all)")
    return 0
