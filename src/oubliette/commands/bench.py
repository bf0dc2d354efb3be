"""`oubliette bench erasure`, `oubliette bench audit` and `oubliette bench guard`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from oubliette.commands import show
from oubliette.commands.erase import Json

if TYPE_CHECKING:
    from oubliette.bench.audit.bench import Benched as AuditBenched
    from oubliette.bench.cells import Cell
    from oubliette.bench.erasure.bench import Benched as ErasureBenched
    from oubliette.bench.guard.bench import Benched as GuardBenched

app = typer.Typer(
    name="bench",
    help="Put every method at hand through the same thing, and make the table.",
    epilog=(
        "\b\nExamples:\n"
        "  oubliette bench erasure --out runs/erasure --jobs 2\n"
        "  oubliette bench audit --out runs/audit --jobs 2\n"
        "  oubliette bench guard --out runs/guard --jobs 2"
    ),
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode=None,
)

ERASURE_EXAMPLES = (
    "\b\nExamples:\n"
    "  oubliette bench erasure --out runs/erasure --jobs 2\n"
    "  oubliette bench erasure --out runs/erasure --subject UCE --subject gold\n"
    "  oubliette bench erasure --out runs/tuning --plan tuning\n"
    "  oubliette bench erasure --out runs/erasure --table-only\n"
    "  oubliette bench erasure --print-plan > my-plan.yaml"
)

AUDIT_EXAMPLES = (
    "\b\nExamples:\n"
    "  oubliette bench audit --out runs/audit --jobs 2\n"
    "  oubliette bench audit --out runs/audit --subject UCE --subject gold\n"
    "  oubliette bench audit --out runs/audit --table-only\n"
    "  oubliette bench audit --print-plan > my-plan.yaml"
)

GUARD_EXAMPLES = (
    "\b\nExamples:\n"
    "  oubliette bench guard --out runs/guard --jobs 2\n"
    "  oubliette bench guard --out runs/guard --table-only\n"
    "  oubliette bench guard --print-plan > my-plan.yaml"
)


@app.callback()
def bench() -> None:
    """Put every method at hand through the same thing, and make the table."""


Out = Annotated[
    Path | None, typer.Option(help="Folder for cells and tables; what it holds already is not run again.")
]
Subjects = Annotated[
    list[str] | None, typer.Option("--subject", help="Run this subject's cells alone; repeatable.")
]
Jobs = Annotated[int, typer.Option(help="Processes that share the cells.", min=1)]
TableOnly = Annotated[
    bool, typer.Option("--table-only", help="Run nothing: make the tables of what is there.")
]
Dry = Annotated[bool, typer.Option("--dry-run", help="List what would be run, and run nothing.")]
PrintPlan = Annotated[bool, typer.Option("--print-plan", help="Print the shipped plan, to copy and edit.")]


@app.command("erasure", epilog=ERASURE_EXAMPLES)
def erasure(
    out: Out = None,
    plan: Annotated[str, typer.Option(help="A shipped plan (erasure, tuning), or a YAML file.")] = "erasure",
    subject: Subjects = None,
    jobs: Jobs = 1,
    table_only: TableOnly = False,
    dry_run: Dry = False,
    print_plan: PrintPlan = False,
    json: Json = False,
) -> int:
    """Erase with every method, judge alike, attack the leaders: the leaderboard; about 3 hours on 2 cores."""
    if print_plan:
        return _print_plan(plan)
    folder = _folder(out)
    from oubliette.bench.erasure.plan import read_plan

    made = read_plan(plan)
    if dry_run:
        from oubliette.bench.erasure.run import states

        return _list(states(made, folder))
    from oubliette.bench.erasure.bench import bench_erasure

    with _progress("bench erasure", len(made.cells())) as tell:
        done = bench_erasure(
            folder, made, jobs=jobs, subjects=subject or (), run=not table_only, progress=tell
        )
    return _done(done, json)


@app.command("audit", epilog=AUDIT_EXAMPLES)
def audit(
    out: Out = None,
    plan: Annotated[str, typer.Option(help="The shipped plan 'audit', or a YAML file.")] = "audit",
    subject: Subjects = None,
    jobs: Jobs = 1,
    table_only: TableOnly = False,
    dry_run: Dry = False,
    print_plan: PrintPlan = False,
    json: Json = False,
) -> int:
    """Erase with every eraser, audit each, and set them side by side; about 4 hours on 2 cores as shipped."""
    if print_plan:
        return _print_plan("audit")
    folder = _folder(out)
    from oubliette.bench.audit.plan import read_plan

    made = read_plan(plan)
    if dry_run:
        from oubliette.bench.audit.run import states

        return _list(states(made, folder))
    from oubliette.bench.audit.bench import bench_audit

    with _progress("bench audit", len(made.cells())) as tell:
        done = bench_audit(folder, made, jobs=jobs, subjects=subject or (), run=not table_only, progress=tell)
    return _done(done, json)


@app.command("guard", epilog=GUARD_EXAMPLES)
def guard(
    out: Out = None,
    plan: Annotated[str, typer.Option(help="The shipped plan 'guard', or a YAML file.")] = "guard",
    jobs: Jobs = 1,
    table_only: TableOnly = False,
    dry_run: Dry = False,
    print_plan: PrintPlan = False,
    json: Json = False,
) -> int:
    """Learn masks with every learner, fine-tune under each; about 4 hours on 2 cores as shipped."""
    if print_plan:
        return _print_plan("guard")
    folder = _folder(out)
    from oubliette.bench.guard.plan import read_plan

    made = read_plan(plan)
    if dry_run:
        rows = [["learn", one.key] for one in made.learning()] + [["use", cell.key] for cell in made.cells()]
        typer.echo(show.columns(rows))
        return 0
    from oubliette.bench.guard.bench import bench_guard

    with _progress("bench guard", len(made.learning()) + len(made.cells())) as tell:
        done = bench_guard(folder, made, jobs=jobs, run=not table_only, progress=tell)
    return _done(done, json)


def _folder(out: Path | None) -> Path:
    if out is None:
        raise typer.BadParameter("name a folder for the benchmark", param_hint="--out")
    return out


def _list(states: Sequence[tuple[Cell, str]]) -> int:
    rows = [["cell", "subject", "concept", "seed", "state"]]
    rows += [[cell.key, cell.subject.name, cell.target.name, str(cell.seed), state] for cell, state in states]
    typer.echo(show.columns(rows))
    return 0


def _print_plan(name: str) -> int:
    from oubliette.bench.shipped import plan_text

    typer.echo(plan_text(name).rstrip())
    return 0


@contextmanager
def _progress(title: str, total: int) -> Iterator[Callable[[int, int, str], None]]:
    from oubliette.core.progress import progress

    with progress(title, total, "cells") as tick:
        yield lambda count, of, note: tick(count, note)


def _done(done: AuditBenched | ErasureBenched | GuardBenched, json: bool) -> int:
    if json:
        show.as_json(done.to_dict())
    else:
        typer.echo(done.markdown().rstrip())
        typer.echo(f"written: {done.out}")
    return 0
