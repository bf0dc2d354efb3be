"""`oubliette attack relearn`, `prompts` and `probe`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from oubliette.commands import numbers, show
from oubliette.commands.erase import Json, Judge
from oubliette.commands.grouped import Grouped
from oubliette.commands.sets import Forget, Other, Retain

if TYPE_CHECKING:
    from oubliette.workflows.attack import Attacked

app = typer.Typer(
    name="attack",
    help="Try one attack on a model: fine-tuning, a search for prompts, a probe.",
    epilog=(
        "\b\nExamples:\n"
        "  oubliette attack relearn --model car-free --attack L1 --out lora\n"
        "  oubliette attack prompts --model car-free --attack paraphrase --out words\n"
        "  oubliette attack probe --model car-free --probe inpaint"
    ),
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode=None,
)

RELEARN_EXAMPLES = (
    "\b\nExamples:\n"
    "  oubliette attack relearn --model car-free --attack F2 --gold nano-gold --out full\n"
    "  oubliette attack relearn --model car-free --mode lora --set steps=50 --set rank=16 --out lora\n"
    "  oubliette attack relearn --model DIR --base DIR0 --concept 'van gogh' --kind style \\\n"
    "      --data PICTURES --judge clip:ViT-B-32/laion2b_s34b_b79k --mask frozen.txt --out masked\n"
    "  oubliette attack relearn --model car-free --attack F2 --sweep --gold novel --out worst"
)
PROMPTS_EXAMPLES = (
    "\b\nExamples:\n"
    "  oubliette attack prompts --model car-free --attack unlearndiffatk --cases 32 --out found\n"
    "  oubliette attack prompts --model other-model --concept car --replay found/prompts.csv\n"
    "  oubliette attack prompts --model npo --gold NEVER-TAUGHT --attack gcg --set steps=50\n"
    "  oubliette attack prompts --model npo --attack rewording --rows two-hop.jsonl"
)
PROBE_EXAMPLES = (
    "\b\nExamples:\n"
    "  oubliette attack probe --model car-free --probe complete --cases 24 --out probe\n"
    "  oubliette attack probe --model car-free --probe transplant --set sibling=other-eraser\n"
    "  oubliette attack probe --model npo --gold NEVER-TAUGHT --probe linear-probe\n"
    "  oubliette attack probe --model npo --probe quantize --set bits=4 --set scheme=nf4"
)

Model = Annotated[str, typer.Option(help="The erased model.", show_default=False)]
Base = Annotated[str | None, typer.Option(help="What it was made from; by default as its record says.")]
ConceptName = Annotated[str | None, typer.Option(help="What was erased; by default as its record says.")]
Anchor = Annotated[str | None, typer.Option(help="The broader concept it was mapped to.")]
Kind = Annotated[str | None, typer.Option(help="object, style or person.")]
Gold = Annotated[str, typer.Option(help="A model that never knew the concept, attacked alike; or none.")]
Data = Annotated[
    Path | None, typer.Option(help="The attacker's own pictures of the concept (folder, parquet), or rows.")
]
Pictures = Annotated[int, typer.Option(help="Pictures judged at every point.", min=2)]
Kept = Annotated[int, typer.Option(help="Pictures of everything else at every point.", min=0)]
Cases = Annotated[int, typer.Option(help="Prompts of the concept's own to start from.", min=1)]
Asked = Annotated[
    int, typer.Option("--pictures", help="Pictures or answers that the original is judged by.", min=2)
]
Benign = Annotated[Path | None, typer.Option(help="Pictures without the concept, or rows of other matters.")]
Steps = Annotated[int, typer.Option("--sampling-steps", help="Sampling steps.", min=1)]
Guidance = Annotated[float, typer.Option(help="Guidance scale.", min=0, callback=numbers.finite)]
Seed = Annotated[int, typer.Option(help="Seed of everything.", min=0, callback=numbers.seed)]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", help="Change the budget or an option: steps=50, tries=4; repeatable."),
]
Out = Annotated[Path | None, typer.Option(help="New folder for attack.json and what goes with it.")]
Cache = Annotated[Path | None, typer.Option(help="Folder kept between runs; by default the user's cache.")]


@app.command(cls=Grouped, epilog=RELEARN_EXAMPLES)
def relearn(
    model: Model,
    base: Base = None,
    concept: ConceptName = None,
    anchor: Anchor = None,
    kind: Kind = None,
    forget: Forget = None,
    retain: Retain = None,
    other: Other = None,
    gold: Annotated[
        str,
        typer.Option(
            help="A model that never knew the concept, attacked alike; 'novel' for a concept that the model "
            "does not know; or none."
        ),
    ] = "none",
    novel: Annotated[str | None, typer.Option(help="With --gold novel: that concept.")] = None,
    novel_data: Annotated[Path | None, typer.Option(help="With --gold novel: pictures of it.")] = None,
    attack: Annotated[
        str | None, typer.Option(help="A name of the catalogue: F2, L1, D1, T1, B1; of rows R1, R4, O1 ...")
    ] = None,
    mode: Annotated[str | None, typer.Option(help="What is trained: full, xattn, lora ...")] = None,
    at: Annotated[list[int] | None, typer.Option(help="Steps to look at, 0 first; repeatable.")] = None,
    points: Annotated[int, typer.Option(help="Points of the curve where no steps are named.", min=2)] = 5,
    runs: Annotated[int, typer.Option(help="Runs, each with another seed.", min=1)] = 1,
    sweep: Annotated[
        bool, typer.Option("--sweep", help="Seek the worst learning rate first, on other seeds.")
    ] = False,
    rate: Annotated[
        list[float] | None,
        typer.Option(
            help="A learning rate of the sweep, else the catalogue's; repeatable.", callback=numbers.finite
        ),
    ] = None,
    set_: Set = None,
    data: Data = None,
    benign: Benign = None,
    mask: Annotated[
        Path | None, typer.Option(help="A guard mask, or a file of names, that must not move.")
    ] = None,
    judge: Judge = None,
    pictures: Pictures = 32,
    kept: Kept = 16,
    sampling_steps: Steps = 25,
    guidance: Guidance = 3.0,
    seed: Seed = 0,
    out: Out = None,
    cache: Cache = None,
    json: Json = False,
) -> int:
    """Fine-tune on a little of what was forgotten, and see how fast it comes back.

    `--set` changes the budget: steps=50, pictures=8, learning_rate=1e-4, rank=16.
    """
    from oubliette.workflows.attack import attack as run
    from oubliette.workflows.attack import relearn_row

    done = run(
        model,
        base,
        concept,
        anchor,
        row=relearn_row(attack, mode, set_ or (), at, sweep=sweep, rates=rate or ()),
        kind=kind,
        forget=forget,
        retain=retain,
        other=other,
        gold=gold,
        mask=mask,
        data=data,
        benign=benign,
        judges=judge,
        cache=cache,
        out=out,
        seed=seed,
        novel=novel,
        novel_data=novel_data,
        pictures=pictures,
        kept=kept,
        points=points,
        seeds=runs,
        steps=sampling_steps,
        guidance=guidance,
    )
    return _done(done, json)


@app.command(cls=Grouped, epilog=PROMPTS_EXAMPLES)
def prompts(
    model: Model,
    base: Base = None,
    concept: ConceptName = None,
    anchor: Anchor = None,
    kind: Kind = None,
    forget: Forget = None,
    retain: Retain = None,
    other: Other = None,
    gold: Gold = "none",
    attack: Annotated[
        str,
        typer.Option(
            help="Of pictures: paraphrase, random-tokens, unlearndiffatk, p4d, ring-a-bell; of answers: "
            "affirmation, role, rewording, few-shot, gcg, soft-prompt."
        ),
    ] = "paraphrase",
    cases: Cases = 16,
    set_: Set = None,
    replay: Annotated[
        Path | None, typer.Option(help="Try the prompts of this CSV instead of searching for some.")
    ] = None,
    rows: Annotated[
        Path | None,
        typer.Option(help="Of a model that answers: a file of questions to ask instead (alias, two hops)."),
    ] = None,
    data: Data = None,
    benign: Benign = None,
    judge: Judge = None,
    pictures: Asked = 32,
    sampling_steps: Steps = 25,
    guidance: Guidance = 3.0,
    seed: Seed = 0,
    out: Out = None,
    cache: Cache = None,
    json: Json = False,
) -> int:
    """Search for prompts that bring the concept back, or replay prompts that were found before."""
    from oubliette.core.validation import settings
    from oubliette.workflows import attack as single

    how: dict[str, Any] = {"steps": sampling_steps, "guidance": guidance, "pictures": pictures}
    where: dict[str, Any] = {"kind": kind, "judges": judge, "cache": cache, "out": out}
    where |= {"forget": forget, "retain": retain, "other": other}
    if replay is not None:
        return _done(single.replay(replay, model, base, concept, anchor, **where, **how), json)
    row = {"row": "prompts", "attack": attack, "cases": cases, "options": settings(set_ or ())}
    row |= {} if rows is None else {"rows": str(rows)}
    where |= {"gold": gold, "seed": seed, "data": data, "benign": benign}
    done = single.attack(model, base, concept, anchor, row=row, **where, **how)
    return _done(done, json)


@app.command(cls=Grouped, epilog=PROBE_EXAMPLES)
def probe(
    model: Model,
    base: Base = None,
    concept: ConceptName = None,
    anchor: Anchor = None,
    kind: Kind = None,
    forget: Forget = None,
    retain: Retain = None,
    other: Other = None,
    gold: Gold = "none",
    probe: Annotated[
        str,
        typer.Option(
            help="Of pictures: inpaint, complete, trajectory, invert, transplant, detach; of answers: "
            "linear-probe, logit-lens; of either: quantize, prune, noise (by --pictures and --kept, without "
            "--cases)."
        ),
    ] = "inpaint",
    cases: Cases = 16,
    set_: Set = None,
    data: Data = None,
    benign: Benign = None,
    judge: Judge = None,
    pictures: Asked = 32,
    kept: Kept = 24,
    sampling_steps: Steps = 25,
    guidance: Guidance = 3.0,
    seed: Seed = 0,
    out: Out = None,
    cache: Cache = None,
    json: Json = False,
) -> int:
    """Ask for the concept by another door, without training anything."""
    from oubliette.core.validation import settings
    from oubliette.workflows import attack as single

    done = single.attack(
        model,
        base,
        concept,
        anchor,
        row={"row": "probe", "probe": probe, "cases": cases, "options": settings(set_ or ())},
        kind=kind,
        forget=forget,
        retain=retain,
        other=other,
        gold=gold,
        data=data,
        benign=benign,
        judges=judge,
        cache=cache,
        out=out,
        seed=seed,
        pictures=pictures,
        kept=kept,
        steps=sampling_steps,
        guidance=guidance,
    )
    return _done(done, json)


def _done(done: Attacked, json: bool) -> int:
    if json:
        show.as_json(done.facts())
        return 0
    from oubliette.workflows.attack import lines

    typer.echo("\n".join(lines(done)))
    if done.out is not None:
        typer.echo(f"written: {done.out}")
    return 0
