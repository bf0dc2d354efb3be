"""`oubliette audit`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from oubliette.commands import numbers, show
from oubliette.commands.erase import Dry, Json, Judge
from oubliette.commands.sets import Forget, Other, Retain
from oubliette.core.numbers import percent

if TYPE_CHECKING:
    from oubliette.audit.dry import Planned
    from oubliette.audit.result import Audit

EXAMPLES = (
    "\b\nExamples:\n"
    "  oubliette audit --model car-free --out car-audit\n"
    "  oubliette audit --model car-free --base nano --concept car --suite standard --dry-run\n"
    "  oubliette audit --print-suite quick > my-suite.yaml\n"
    "  oubliette audit --model car-free --suite my-suite.yaml --mask frozen.txt --out masked --resume\n"
    "  oubliette audit --model DIR --base DIR0 --gold DIR1 --concept 'van gogh' --kind style \\\n"
    "      --judge clip:ViT-B-32/laion2b_s34b_b79k --data PICTURES --out audit\n"
    "  oubliette audit --model DIR --base DIR0 --gold novel --novel okapi --novel-data OKAPIS \\\n"
    "      --concept giraffe --judge clip:ViT-B-32/laion2b_s34b_b79k --data GIRAFFES --out audit\n"
    "  oubliette audit --model forgetful --gold NEVER-TAUGHT --out forgetful-audit"
)


def audit(
    model: Annotated[str | None, typer.Option(help="The erased model.", show_default=False)] = None,
    base: Annotated[
        str | None, typer.Option(help="What it was made from; by default as its record says.")
    ] = None,
    gold: Annotated[
        str | None,
        typer.Option(
            help="A model that never knew the concept; 'none' leaves out the one that is known, 'novel' "
            "takes a concept that the model does not know."
        ),
    ] = None,
    novel: Annotated[str | None, typer.Option(help="With --gold novel: that concept.")] = None,
    novel_data: Annotated[
        Path | None, typer.Option(help="With --gold novel: pictures of it, folder or parquet.")
    ] = None,
    concept: Annotated[
        str | None, typer.Option(help="What was erased; by default as its record says.")
    ] = None,
    kind: Annotated[str | None, typer.Option(help="object, style or person.")] = None,
    forget: Forget = None,
    retain: Retain = None,
    other: Other = None,
    anchor: Annotated[str | None, typer.Option(help="The broader concept it was mapped to.")] = None,
    suite: Annotated[
        str | None,
        typer.Option(
            help="quick, standard, full, answers or a YAML file; by default quick, or answers for a model "
            "that answers.",
            show_default=False,
        ),
    ] = None,
    mask: Annotated[
        Path | None, typer.Option(help="A guard mask, or a file of tensor names, that no attack may move.")
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="The attacker's pictures of the concept: folder or parquet.")
    ] = None,
    benign: Annotated[
        Path | None, typer.Option(help="Pictures without the concept, for benign fine-tuning.")
    ] = None,
    judge: Judge = None,
    out: Annotated[Path | None, typer.Option(help="New folder for figures, samples and page.")] = None,
    cache: Annotated[
        Path | None, typer.Option(help="Folder kept between audits; by default the user's cache.")
    ] = None,
    seed: Annotated[
        int, typer.Option(help="Seed of prompts, pictures and attacks.", min=0, callback=numbers.seed)
    ] = 0,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the audit for OUT that was cut short.")
    ] = False,
    require_erased: Annotated[
        bool,
        typer.Option(
            "--require-erased",
            help="Exit with 1 if not erased, hidden or destroyed, with 3 if it cannot be told.",
        ),
    ] = False,
    dry_run: Dry = False,
    print_suite: Annotated[
        str | None, typer.Option(help="Print a suite's YAML, to copy and edit.", metavar="NAME")
    ] = None,
    json: Json = False,
) -> int:
    """Attack an erased model and say whether the concept is gone, hidden, or was never erased."""
    if print_suite is not None:
        from oubliette.audit.read_suite import suite_text

        typer.echo(suite_text(print_suite).rstrip())
        return 0
    if model is None:
        raise typer.BadParameter("name the model to audit", param_hint="--model")
    if dry_run:
        from oubliette.workflows.audit import estimate

        planned = estimate(
            model,
            base,
            concept,
            anchor,
            suite=suite,
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
            seed=seed,
            novel=novel,
            novel_data=novel_data,
        )
        if json:
            show.as_json(planned.to_dict())
        else:
            typer.echo(_planned(planned))
        return 0
    if out is None:
        raise typer.BadParameter("name a new folder for the audit", param_hint="--out")
    from oubliette.workflows.audit import audit as run

    done = run(
        model,
        base,
        concept,
        anchor,
        out=out,
        suite=suite,
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
        seed=seed,
        resume=resume,
        command=show.command_line(),
        novel=novel,
        novel_data=novel_data,
    )
    if json:
        show.as_json(done.audit.to_dict())
    else:
        typer.echo(_found(done.audit))
        typer.echo(f"report: {done.page}")
    return done.exit_code if require_erased else 0


def _planned(planned: Planned) -> str:
    rows = [["row", "runs", "on", "forwards", "backwards", "pictures", "seconds"]]
    notes = [f"{row.title}: skipped, {row.note}" for row in planned.rows if row.note]
    for row in planned.rows:
        runs = f"{row.runs} + {row.sweep}" if row.sweep and not row.note else str(row.runs)
        counts = [runs, str(row.subjects), *(f"{n:,}" for n in (row.forwards, row.backwards))]
        rows.append([row.title, *counts, f"{row.pictures:,}", f"{row.seconds:.0f}"])
    return "\n".join(
        [
            show.columns(rows),
            *notes,
            f"about {planned.seconds:.0f} s in all, {planned.memory_mib:.0f} MiB at the peak of "
            f"{planned.memory_of}; what the cache holds already is not taken off",
        ]
    )


def _found(audit: Audit) -> str:
    """The verdict, then every row with its result."""
    from oubliette.report import audit_words as say

    own = say.names(audit)["model"]
    width = max(len(own), len("novel"))
    rows = []
    for row in audit.rows:
        rows.append(f"{row.title} ({audit.times[row.id]:.0f} s)")
        swept = [] if row.sweep is None else [f"  {'sweep':<{width}}  {say.sweep(row.sweep)}"]
        if row.status == "skipped":
            rows += [f"  skipped: {row.note}", *swept]
            continue
        rows += [*swept, f"  {own:<{width}}  {say.outcome(row, 'model')}"]
        if audit.gold is not None or row.of(row.control):
            control = row.control if row.curves else "gold"
            rows += [
                f"  {control:<{width}}  {say.outcome(row, control)}",
                f"  {'so':<{width}}  {say.against(row)}",
            ]
    lines = [
        f"{audit.concept['name']}: {audit.verdict.word}",
        audit.verdict.sentence,
        *(f"  {line}" for line in audit.verdict.deciding),
        *(["also seen:"] if audit.verdict.deciding and audit.verdict.others else []),
        *(f"  {line}" for line in audit.verdict.others),
        "",
        *(line.replace("\u00a0", " ") for line in rows),
        "",
        *(f"! {line}" for line in audit.verdict.limits),
        f"bounds: {_bounds(audit.verdict.bounds)}",
        *(f"note: {line}" for line in audit.notes),
    ]
    return "\n".join(lines)


def _bounds(limits: Mapping[str, float]) -> str:
    """What the verdict was held against, in one line and in the words of an evaluation's."""
    return (
        f"leakage at most {percent(limits['leakage'])}, kept at least {percent(limits['kept'])}, destroyed "
        f"below {percent(limits['destroyed'])}; back at {percent(limits['level'])} of its strength, hidden "
        f"where that takes gold over {limits['sooner']:g} times as long"
    )
