"""`oubliette bench blur`: a plan of erasers, or one model audited on any two sets."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from oubliette.commands.bench_options import (
    Dry,
    InShards,
    Jobs,
    Out,
    PrintPlan,
    Subjects,
    TableOnly,
    perform,
    planned,
    print_it,
)
from oubliette.commands.erase import Json
from oubliette.commands.sets import named_files
from oubliette.core.errors import UserError, suggest

__all__ = ["BLUR_EXAMPLES", "BLUR_HELP", "blur"]

BLUR_HELP = (
    "Prompts that mix what was to go with what must stay, and benign relearning by tiers: every eraser of a "
    "plan, or one model."
)
BLUR_EXAMPLES = (
    "\b\nExamples:\n"
    "  oubliette bench blur --out runs/blur\n"
    "  oubliette bench blur --out runs/blur --subject NPO\n"
    "  oubliette bench blur --model forgetful --forget forget.jsonl --retain retain.jsonl --out runs/one\n"
    "  oubliette bench blur --model DIR --base DIR0 --gold DIR1 --forget tofu_forget.json \\\n"
    "    --retain tofu_retain.json --rows mid=D_mid.json --rows lo=D_lo_for_all.json --out runs/two\n"
    "  oubliette bench blur --print-plan > my-plan.yaml"
)
_NAME = "blur"
#: What --rows may name, besides the tiers.
_ROWS = ("relearn", "novel", "alias", "two_hops")

Plan = Annotated[str | None, typer.Option(help="A shipped plan (blur, where none is named), or a YAML file.")]
Model = Annotated[str | None, typer.Option(help="Audit this model alone, on --forget and --retain.")]
Base = Annotated[str | None, typer.Option(help="The model it was made from; by default its record's.")]
Gold = Annotated[str | None, typer.Option(help="A model that never knew what was to go, beside it.")]
Forget = Annotated[Path | None, typer.Option(help="What it was to forget; half of it is asked.")]
Retain = Annotated[Path | None, typer.Option(help="What must stay.")]
Rows = Annotated[
    list[str] | None,
    typer.Option(
        help="NAME=FILE, repeatable: relearn (the forget set in an attacker's words), novel (entities no "
        "model has read of), alias, two_hops; hi, mid, lo, syntactic (a tier as it is)."
    ),
]


def blur(
    out: Out = None,
    model: Model = None,
    base: Base = None,
    gold: Gold = None,
    forget: Forget = None,
    retain: Retain = None,
    rows: Rows = None,
    plan: Plan = None,
    subject: Subjects = None,
    jobs: Jobs = 1,
    shard: InShards = None,
    table_only: TableOnly = False,
    dry_run: Dry = False,
    print_plan: PrintPlan = False,
    json: Json = False,
) -> int:
    """Run the plan, or a plan of the model and its base."""
    if print_plan:
        return print_it(plan or _NAME)
    given = {"--base": base, "--gold": gold, "--forget": forget, "--retain": retain, "--rows": rows}
    if model is None and (name := next((name for name, value in given.items() if value), None)):
        raise UserError(f"{name} is of one model, and none is named; give --model, or write it into a --plan")
    if model is not None and plan is not None:
        raise UserError("--model audits one model, and --plan says which subjects are run; give one of them")
    if model is not None and (missing := [name for name in ("--forget", "--retain") if not given[name]]):
        raise UserError(f"--model {model}: give the rows of both sets; no {' and no '.join(missing)}")

    def found() -> tuple[Any, Any]:
        if model is None:
            return planned(_NAME, plan or _NAME)
        from oubliette.bench.blur.plan import Files, audit_plan
        from oubliette.bench.runner import BENCHMARKS
        from oubliette.data.tiers import TIERS

        named = {key: str(path) for key, path in named_files(rows or ()).items()}
        for key in named:
            if key not in (*_ROWS, *TIERS):
                raise UserError(f"--rows {key}: no set is called so; {suggest(key, (*_ROWS, *TIERS))}")
        tiers = {key: path for key, path in named.items() if key in TIERS}
        further = {key: path for key, path in named.items() if key in _ROWS}
        files = Files(forget=str(forget), retain=str(retain), tiers=tiers, **further)
        return BENCHMARKS.get(_NAME), audit_plan(model, base, files, gold)

    return perform(
        _NAME,
        found,
        out,
        subjects=subject,
        jobs=jobs,
        shard=shard,
        table_only=table_only,
        dry_run=dry_run,
        json=json,
    )
