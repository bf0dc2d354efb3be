"""A platform's half of `oubliette guard`: `show`, `apply` and `verify`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from oubliette.commands import numbers
from oubliette.commands import show as shown
from oubliette.commands.erase import Json, Resume, SaveDtype
from oubliette.commands.guard_options import Kind, MaskFolder, Model, Out, Set

SHOW_EXAMPLES = (
    "\b\nExamples:\n  oubliette guard show mask\n  oubliette guard show user/name --picture where.png"
)
APPLY_EXAMPLES = (
    "\b\nExamples:\n"
    "  oubliette guard apply --mask mask --model nano --data bicycle --out tuned\n"
    "  oubliette guard apply --mask mask --model DIR --data PICTURES --mode lora --set rank=8 --out lora\n"
    "  oubliette guard apply --mask mask --model DIR --data 'my dog=DOG' --mode dreambooth --out dog"
)
VERIFY_EXAMPLES = (
    "\b\nExamples:\n"
    "  oubliette guard verify --mask mask --tuned tuned\n"
    "  oubliette guard verify --mask mask --tuned pytorch_lora_weights.safetensors --base DIR\n"
    "  oubliette guard verify --mask mask --signature public.pem"
)


def show(
    mask: Annotated[str, typer.Argument(help="A mask's folder, or a Hub id.", show_default=False)],
    picture: Annotated[Path | None, typer.Option(help="Write a picture (PNG) of where it lies.")] = None,
    json: Json = False,
) -> int:
    """Print what a mask freezes, block by block, how it was learned and what it was measured to do."""
    from oubliette.workflows.guard.show import describe, open_mask

    made = open_mask(mask)
    if picture is not None:
        from oubliette.guard.show import picture as draw

        draw(made, picture)
    if json:
        from oubliette.guard.show import summary

        shown.as_json({**summary(made).to_dict(), "learned": made.learned, "measured": made.measured})
    else:
        typer.echo(describe(made))
        if picture is not None:
            typer.echo(f"picture: {picture}")
    return 0


def apply(
    mask: MaskFolder,
    model: Model,
    data: Annotated[
        str, typer.Option(help="FOLDER, NAME=FOLDER, JSONL or a concept of the world.", show_default=False)
    ],
    out: Out,
    mode: Annotated[str, typer.Option(help="full, lora or dreambooth.")] = "full",
    set_: Set = None,
    save: Annotated[str, typer.Option(help="full, or delta: only what changed.", metavar="FORM")] = "full",
    save_dtype: SaveDtype = None,
    identifier: Annotated[str | None, typer.Option(help="DreamBooth's token.", show_default="sks")] = None,
    kind: Kind = None,
    seed: Annotated[int, typer.Option(help="Seed of the run.", min=0, callback=numbers.seed)] = 0,
    resume: Resume = False,
    json: Json = False,
) -> int:
    """Fine-tune under a mask, save, and check the result against it.

    `--set` changes the budget: steps=50, pictures=8, learning_rate=1e-4, rank=16.
    """
    from oubliette.core.validation import settings
    from oubliette.workflows.guard.apply import apply_mask

    done = apply_mask(
        mask,
        model,
        data,
        out,
        mode=mode,
        budget=settings(set_ or ()),
        form=save,
        dtype=save_dtype,
        identifier=identifier,
        kind=kind,
        seed=seed,
        resume=resume,
    )
    if json:
        shown.as_json(done.facts())
    else:
        what = "layers with adapters" if mode == "lora" else "tensors trained"
        typer.echo(
            shown.pairs(
                {
                    "saved": done.out,
                    what: f"{done.trained} ({done.parameters:,} parameters), {done.left_out} left frozen",
                    "loss": f"{done.loss:.4g} in the last step, {done.seconds:.1f} s",
                    "mask": f"{done.verification.word} ({'; '.join(done.verification.reasons)})",
                }
            )
        )
        for note in done.notes:
            typer.echo(f"note: {note}")
    return done.exit_code


def verify(
    mask: MaskFolder,
    tuned: Annotated[
        Path | None, typer.Option(help="Folder, safetensors file or LoRA file to check.", show_default=False)
    ] = None,
    base: Annotated[
        Path | None, typer.Option(help="The mask's base: says how far a changed tensor moved.")
    ] = None,
    signature: Annotated[
        Path | None, typer.Option(help="Public key (PEM) that the mask's own signature must hold under.")
    ] = None,
    tensors: Annotated[
        bool, typer.Option("--tensors", help="List every tensor, not only the changed.")
    ] = False,
    json: Json = False,
) -> int:
    """Say whether a fine-tuned model respected a mask: exit code 0 respected, 1 violated, 3 not checkable."""
    if tuned is None and signature is None:
        raise typer.BadParameter("name what is to be checked: --tuned, --signature or both")
    facts: dict[str, Any] = {}
    if signature is not None:
        from oubliette.guard.sign import verify_signature

        uncovered = verify_signature(mask if mask.is_dir() else mask.parent, public_key=signature)
        holds = "holds" + (f" (it does not cover {', '.join(uncovered)})" if uncovered else "")
        facts = {"signature": "holds", "not_covered": list(uncovered)}
        if tuned is None:
            shown.as_json(facts) if json else typer.echo(f"the mask's signature {holds}")
            return 0
    assert tuned is not None
    from oubliette.core.progress import counted
    from oubliette.guard.verify.verify import verify as check

    with counted("verify", "tensors") as told:
        found = check(mask, tuned, base, progress=told)
    if json:
        shown.as_json({**found.to_dict(), **facts})
        return found.exit_code
    typer.echo(f"mask: {found.word}")
    for reason in found.reasons:
        typer.echo(f"  {reason}")
    rows = [["tensor", "state", "how far", ""]]
    for made in found.tensors:
        if tensors or made.status != "untouched":
            far = (
                ""
                if made.relative is None
                else f"{made.relative:.2g} of its norm, at most {made.max_abs:.2g}"
            )
            rows.append([made.name, made.status, far, made.note])
    if len(rows) > 1:
        typer.echo(shown.columns(rows))
    for note in found.notes:
        typer.echo(f"note: {note}")
    if signature is not None:
        typer.echo(f"signature: {holds}")
    typer.echo(f"whether the concept is recoverable: {found.recoverable}")
    return found.exit_code
