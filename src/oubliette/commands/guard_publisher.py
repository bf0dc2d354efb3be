"""A publisher's half of `oubliette guard`: `learn`, `cut`, `convert`, `measure`, `sign` and `publish`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from oubliette.commands import numbers
from oubliette.commands import show as shown
from oubliette.commands.erase import Json, Resume
from oubliette.commands.guard_options import Budget, Folder, Kind, Licence, MaskFolder, Model, Of, Out, Set

LEARN_EXAMPLES = (
    "\b\nExamples:\n"
    "  oubliette guard learn --model nano --illegal 'Bram Ostrow' --innocent bicycle --out mask\n"
    "  oubliette guard learn --model DIR --illegal 'a face=FACES' --innocent LOGOS --innocent BIRDS \\\n"
    "      --budget 0.3 --learner bilevel --licence openrail++ --out mask\n"
    "  oubliette guard learn --model DIR --relearned TUNED --illegal FACES --innocent LOGOS --out mask"
)
CUT_EXAMPLES = "\b\nExamples:\n  oubliette guard cut --mask mask --model nano --budget 0.5 --out mask-50"
CONVERT_EXAMPLES = "\b\nExamples:\n  oubliette guard convert mask_t_0_4 --model DIR --out mask"
MEASURE_EXAMPLES = (
    "\b\nExamples:\n"
    "  oubliette guard measure --mask mask --model nano --illegal 'Bram Ostrow' --innocent cup --out new\n"
    "  oubliette guard measure --mask mask --model DIR --illegal 'a face=FACES' --innocent LOGOS \\\n"
    "      --judge clip:openai/clip-vit-base-patch32 --out new"
)
SIGN_EXAMPLES = (
    "\b\nExamples:\n"
    "  openssl ecparam -name prime256v1 -genkey -noout -out private.pem\n"
    "  openssl ec -in private.pem -pubout -out public.pem\n"
    "  oubliette guard sign mask --key private.pem"
)
PUBLISH_EXAMPLES = (
    "\b\nExamples:\n"
    "  oubliette guard publish mask --repo user/name --dry-run\n"
    "  oubliette guard publish mask --repo user/name --private"
)


def learn(
    model: Annotated[
        str,
        typer.Option("--model", "--pre", help="The model to guard, erased first or not.", show_default=False),
    ],
    illegal: Annotated[
        list[str],
        typer.Option(
            help="FOLDER, NAME=FOLDER, JSONL or a concept of the world; repeatable.", show_default=False
        ),
    ],
    innocent: Annotated[
        list[str],
        typer.Option(help="The same, of what users may go on to train; repeatable.", show_default=False),
    ],
    out: Out,
    learner: Annotated[str, typer.Option(help="How (oubliette ls learners).")] = "saliency",
    budget: Budget = 0.3,
    of: Of = "parameters",
    relearned: Annotated[
        str | None, typer.Option(help="A model fine-tuned from it on both sides; else made on the spot.")
    ] = None,
    pictures: Annotated[int, typer.Option(help="Rows of every source.", min=1)] = 200,
    scope: Annotated[str, typer.Option(help="Where candidates lie (oubliette ls scopes).")] = "full",
    each: Annotated[str, typer.Option(help="Candidates: weight (biases follow), or tensor.")] = "weight",
    batch: Annotated[int, typer.Option(help="Rows a side in a batch of the learner.", min=1)] = 4,
    set_: Set = None,
    user: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=VALUE", help="Change the simulated user: steps=100; repeatable."),
    ] = None,
    kind: Kind = None,
    seed: Annotated[int, typer.Option(help="Seed of everything.", min=0, callback=numbers.seed)] = 0,
    stability: Annotated[bool, typer.Option(help="Learn twice more from half the rows, to see.")] = True,
    licence: Licence = None,
    resume: Resume = False,
    json: Json = False,
) -> int:
    """Find the tensors that an illegal adaptation needs and an innocent one does not."""
    from oubliette.core.validation import settings
    from oubliette.workflows.guard.learn import learn_mask

    done = learn_mask(
        model,
        illegal=illegal,
        innocent=innocent,
        out=out,
        learner=learner,
        options=settings(set_ or ()),
        budget=budget,
        of=of,
        relearned=relearned,
        pictures=pictures,
        user=settings(user or ()),
        scope=scope,
        each=each,
        batch=batch,
        kind=kind,
        seed=seed,
        split_half=stability,
        licence=licence,
        resume=resume,
    )
    return _written(done, json)


def cut(
    mask: MaskFolder,
    model: Model,
    out: Out,
    budget: Budget = 0.5,
    of: Of = "parameters",
    licence: Licence = None,
    json: Json = False,
) -> int:
    """Cut another budget from the scores a mask keeps, without learning anew."""
    from oubliette.workflows.guard.learn import cut_mask

    return _written(cut_mask(mask, model, out, budget=budget, of=of, licence=licence), json)


def convert(
    vector: Annotated[Path, typer.Argument(help="A text file of one 0 or 1 a line.", show_default=False)],
    model: Model,
    out: Out,
    licence: Licence = None,
    json: Json = False,
) -> int:
    """Turn one of FreezeAsGuard's own positional vectors into a mask with names and hashes."""
    from oubliette.backends import open_model
    from oubliette.guard.text_vector import convert as read
    from oubliette.workflows.guard.learn import Guarded, write_mask

    made = read(vector, open_model(model))
    write_mask(made, out, licence=licence)
    return _written(Guarded(made, out, []), json)


def measure(
    mask: MaskFolder,
    model: Model,
    illegal: Annotated[
        list[str],
        typer.Option(help="What the mask is to hinder; as for learn; repeatable.", show_default=False),
    ],
    innocent: Annotated[
        list[str],
        typer.Option(help="What it is to leave alone, best not what it was learned on.", show_default=False),
    ],
    out: Out,
    mode: Annotated[str, typer.Option(help="full or lora.")] = "full",
    set_: Set = None,
    judge: Annotated[str | None, typer.Option(help="oracle, clip:MODEL, classifier:FOLDER.")] = None,
    pictures: Annotated[int, typer.Option(help="Pictures at every look.", min=2)] = 32,
    kind: Kind = None,
    seed: Annotated[int, typer.Option(help="Seed of the run.", min=0, callback=numbers.seed)] = 0,
    json: Json = False,
) -> int:
    """Fine-tune with the mask and without it, and write the mask anew with what that showed.

    `--set` changes the budget: steps=50, pictures=8, learning_rate=1e-4, rank=16. Sign the result, not the
    mask it was made from.
    """
    from oubliette.core.validation import settings
    from oubliette.workflows.guard.measure import measure as look

    done = look(
        mask,
        model,
        out,
        illegal=illegal,
        innocent=innocent,
        mode=mode,
        budget=settings(set_ or ()),
        judge=judge,
        pictures=pictures,
        kind=kind,
        seed=seed,
    )
    if json:
        shown.as_json({"out": str(done.out), **done.figures})
    else:
        typer.echo("\n".join([*done.lines(), f"written   {done.out}"]))
    return 0


def sign(
    mask: Folder,
    key: Annotated[
        Path | None,
        typer.Option(help="Private key (PEM, elliptic curve); left out, Sigstore asks who you are."),
    ] = None,
    json: Json = False,
) -> int:
    """Sign a mask's folder (OpenSSF Model Signing; needs the extra 'sign')."""
    from oubliette.guard.sign import sign as make

    made = make(mask, private_key=key)
    shown.as_json({"signature": str(made)}) if json else typer.echo(f"signed: {made}")
    return 0


def publish(
    mask: Folder,
    repo: Annotated[str, typer.Option(help="The Hub's model repository: user/name.", show_default=False)],
    private: Annotated[bool, typer.Option("--private", help="Make the repository private.")] = False,
    create_pr: Annotated[bool, typer.Option("--create-pr", help="Open a pull request.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done; no network.")] = False,
    json: Json = False,
) -> int:
    """Upload a mask to the Hub, with the token that `hf auth login` left or HF_TOKEN."""
    from oubliette.guard.publish import publish as send

    done = send(mask, repo, private=private, dry_run=dry_run, create_pr=create_pr)
    if json:
        shown.as_json(done.to_dict())
        return 0
    typer.echo("would:" if dry_run else "done:")
    for step in done.steps:
        typer.echo(f"  {step}")
    typer.echo(shown.columns([[file.name, f"{file.size:,} bytes", file.sha256] for file in done.files]))
    if done.url is not None:
        typer.echo(f"published: {done.url}")
    return 0


def _written(done: object, json: bool) -> int:
    from oubliette.workflows.guard.show import describe

    mask, out, notes = done.mask, done.out, done.notes  # type: ignore[attr-defined]
    if json:
        from oubliette.guard.show import summary

        shown.as_json({"out": str(out), **summary(mask).to_dict(), "learned": mask.learned, "notes": notes})
        return 0
    typer.echo(describe(mask))
    for note in notes:
        typer.echo(f"note: {note}")
    typer.echo(f"written: {out}")
    return 0
