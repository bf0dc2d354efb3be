"""`oubliette erase` and `oubliette run`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from oubliette.commands import numbers, show
from oubliette.core.errors import UserError

if TYPE_CHECKING:
    from oubliette.workflows.erase import Outcome
    from oubliette.workflows.order import Job, Order

ERASE_EXAMPLES = (
    "\b\nExamples:\n"
    "  oubliette erase --model nano --concept car --anchor object --method doco --out car-free\n"
    "  oubliette erase --model nano --concept car --concept 'Mira Voss' --method uce --out two-less\n"
    "  oubliette erase --model DIR --concept 'van gogh' --kind style --method esd-x --out DIR2 --save delta\n"
    "  oubliette erase --model nano --concept car --out car-free --dry-run\n"
    "  oubliette erase --model DIR --forget forget.jsonl --retain retain.jsonl --method npo --out DIR2\n"
    "  oubliette erase --model nano --concept car --out car-free --require-leakage 0.1\n"
    "  oubliette erase --model nano --stream requests.yaml --method uce --out three-less"
)
RUN_EXAMPLES = (
    "\b\nExamples:\n"
    "  oubliette run my-recipe.yaml --out car-free\n"
    "  oubliette run my-recipe.yaml --out car-free --set train.steps=50 --set seed=1\n"
    "  oubliette run my-recipe.yaml --out car-free --resume"
)

Out = Annotated[
    Path | None, typer.Option(help="Folder for the result; must not exist yet.", show_default=False)
]
Set = Annotated[
    list[str] | None, typer.Option("--set", help="Override a recipe's key: train.steps=50; repeatable.")
]
SaveDtype = Annotated[
    str | None,
    typer.Option(
        help="float32, float16 or bfloat16 for what changed; by default the base's, which rounds.",
        metavar="DTYPE",
    ),
]
Check = Annotated[
    str, typer.Option(help="Check the result: auto (where it fits a minute), on, off.", metavar="MODE")
]
Judge = Annotated[
    list[str] | None, typer.Option(help="oracle, clip:MODEL, classifier:FOLDER or a folder; repeatable.")
]
Require = Annotated[
    float | None,
    typer.Option(
        help="Exit with 1 if leakage is over this bound, 3 if it cannot be told.", callback=numbers.share
    ),
]
Report = Annotated[bool, typer.Option(help="Write a page beside the result where it was checked.")]
Resume = Annotated[bool, typer.Option("--resume", help="Go on with the run for OUT that was cut short.")]
Dry = Annotated[bool, typer.Option("--dry-run", help="Print recipe and estimated cost, and do nothing.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def erase(
    model: Annotated[str, typer.Option(help="Embedded name, folder or Hub id.", show_default=False)],
    concept: Annotated[
        list[str] | None, typer.Option(help="What is to be forgotten; repeatable.", show_default=False)
    ] = None,
    anchor: Annotated[
        list[str] | None, typer.Option(help="The broader concept it is mapped to: one, or one each.")
    ] = None,
    kind: Annotated[list[str] | None, typer.Option(help="object, style or person: one, or one each.")] = None,
    method: Annotated[
        str | None, typer.Option(help="Method or preset (oubliette ls recipes); doco, or npo for language.")
    ] = None,
    out: Out = None,
    scope: Annotated[str | None, typer.Option(help="Which tensors may move (oubliette ls scopes).")] = None,
    surgery: Annotated[
        str | None, typer.Option(help="How gradients are combined (oubliette ls surgeries).")
    ] = None,
    smoother: Annotated[
        str | None, typer.Option(help="Where gradients are taken (oubliette ls smoothers).")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of the run.", min=0, callback=numbers.seed)] = None,
    steps: Annotated[int | None, typer.Option(help="Updates of a trained method.", min=1)] = None,
    set_: Set = None,
    stream: Annotated[
        Path | None,
        typer.Option(help="Requests, erased one after another: a YAML list, or a record or request a line."),
    ] = None,
    order: Annotated[
        int | None, typer.Option(help="Seed of another order of the stream's requests.", min=0)
    ] = None,
    checkpoints: Annotated[
        str | None,
        typer.Option(
            help="Requests of the stream after which it is measured and a model kept: 60,120,180.",
            metavar="N,N",
        ),
    ] = None,
    policy: Annotated[
        str | None, typer.Option(help="What decides about each request (oubliette ls policies).")
    ] = None,
    policy_set: Annotated[
        list[str] | None, typer.Option(help="Override an option of the policy: similar=0.8; repeatable.")
    ] = None,
    encoder: Annotated[
        Path | None, typer.Option(help="Folder of an encoder of texts, for a policy that compares them.")
    ] = None,
    prompts: Annotated[
        Path | None, typer.Option(help="CSV of your own prompt pairs: target, anchor[, concept].")
    ] = None,
    retain: Annotated[
        Path | None, typer.Option(help="What must stay: prompts, one a line; JSONL for language.")
    ] = None,
    forget: Annotated[Path | None, typer.Option(help="JSONL of what a language model must forget.")] = None,
    data: Annotated[Path | None, typer.Option(help="Folder with your own anchor pictures.")] = None,
    freeze: Annotated[
        Path | None, typer.Option(help="File of tensor names that must not move (text or JSON).")
    ] = None,
    save: Annotated[
        str | None,
        typer.Option(
            help="full; delta: only what changed; lora: that as adapters; attached: what goes with the base, "
            "for methods that are attached (oubliette ls methods). By default as the preset says.",
            metavar="FORM",
        ),
    ] = None,
    save_dtype: SaveDtype = None,
    check: Check = "auto",
    judge: Judge = None,
    require_leakage: Require = None,
    report: Report = True,
    resume: Resume = False,
    dry_run: Dry = False,
    json: Json = False,
) -> int:
    """Erase concepts from a model, save the result and check it."""
    from oubliette.workflows.compose import compose
    from oubliette.workflows.order import Job, Order

    asked = Order(
        concept=concept or (),
        anchor=anchor,
        kind=kind,
        method=method,
        scope=scope,
        surgery=surgery,
        smoother=smoother,
        seed=seed,
        steps=steps,
        prompts=prompts,
        retain=retain,
        forget=forget,
        data=data,
        freeze=freeze,
        save=save,
        policy=policy,
        overrides=[
            *_overrides(set_, save_dtype),
            *(f"policy.{change}" for change in policy_set or ()),
            *(() if encoder is None else (f"policy.encoder={encoder}",)),
        ],
    )
    job = Job(out, check, judge or (), require_leakage, report, resume, show.command_line())
    if stream is not None:
        how = {"permutation": order, "checkpoints": _numbers(checkpoints)}
        return _stream(stream, asked, job, model, dry_run, json, how)
    for given, what in ((order, "--order"), (checkpoints, "--checkpoints"), (policy, "--policy")):
        if given is not None:
            raise UserError(f"{what} is of a stream of requests: give --stream")

    def recipe(opened: Any) -> Any:
        return compose(opened, asked)

    return _go(recipe, job, model, dry_run, json)


def run(
    recipe: Annotated[str, typer.Argument(help="A recipe's file or a preset's name.")],
    model: Annotated[str | None, typer.Option(help="Take this model in place of the recipe's.")] = None,
    out: Out = None,
    set_: Set = None,
    save_dtype: SaveDtype = None,
    check: Check = "auto",
    judge: Judge = None,
    require_leakage: Require = None,
    report: Report = True,
    resume: Resume = False,
    dry_run: Dry = False,
    json: Json = False,
) -> int:
    """Run a recipe: load, erase, save, check, report."""
    from oubliette.recipe import load_recipe
    from oubliette.workflows.order import Job

    loaded = load_recipe(recipe, _overrides(set_, save_dtype))
    job = Job(out, check, judge or (), require_leakage, report, resume, show.command_line())
    return _go(loaded, job, model, dry_run, json)


def _numbers(checkpoints: str | None) -> list[int] | None:
    if checkpoints is None:
        return None
    parts = [part.strip() for part in checkpoints.split(",")]
    if not all(part.isdigit() for part in parts):
        raise UserError(f"--checkpoints {checkpoints}: expected numbers of requests, as in 60,120,180")
    return [int(part) for part in parts]


def _overrides(given: list[str] | None, save_dtype: str | None) -> list[str]:
    return [*(given or ()), *([] if save_dtype is None else [f"save.dtype={save_dtype}"])]


def _go(recipe: Any, job: Job, model: str | None, dry_run: bool, json: bool) -> int:
    from oubliette.workflows.erase import dry, run_job

    if dry_run:
        return _plan(dry(recipe, job, model=model), json)
    return _done(run_job(recipe, job, model=model), json)


def _stream(
    requests: Path, order: Order, job: Job, model: str, dry_run: bool, json: bool, how: dict[str, Any]
) -> int:
    from oubliette.workflows.continual.run import dry_stream, run_stream

    if dry_run:
        stages = dry_stream(requests, order, job, model=model, **how)
        if json:
            show.as_json(stages)
        else:
            for stage in stages:
                typer.echo(f"# {stage['stage']}")
                _plan(stage, json)
        return 0
    done = run_stream(requests, order, job, model=model, **how)
    if done.main:
        show.as_json(done.facts()) if json else typer.echo(show.stream(done))
    return done.exit_code


def _plan(found: dict[str, Any], json: bool) -> int:
    if json:
        show.as_json(found)
    else:
        typer.echo(found["recipe_yaml"].rstrip())
        typer.echo("\n" + show.estimate(found["estimate"]))
    return 0


def _done(done: Outcome, json: bool) -> int:
    if done.main and json:
        show.as_json(done.facts())
    elif done.main:
        typer.echo(show.outcome(done))
    return done.exit_code
