"""`oubliette bench audit` and `oubliette bench guard`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from oubliette.cli import show
from oubliette.cli.erase import Json

app = typer.Typer(
    name="bench",
    help="Put every method at hand through the same thing, and make the table.",
    epilog=(
        "\b\nExamples:\n"
        "  oubliette bench audit --out runs/audit --jobs 2\n"
        "  oubliette bench guard --out runs/guard --jobs 2"
    ),
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode=None,
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


@app.command("audit", epilog=AUDIT_EXAMPLES)
def audit(
    out: Annotated[
        Path | None, typer.Option(help="Folder for cells and tables; what it holds already is not run again.")
    ] = None,
    plan: Annotated[str, typer.Option(help="The shipped plan 'audit', or a YAML file.")] = "audit",
    subject: Annotated[
        list[str] | None, typer.Option(help="Run this subject's cells alone; repeatable.")
    ] = None,
    jobs: Annotated[int, typer.Option(help="Processes that share the cells.", min=1)] = 1,
    table_only: Annotated[
        bool, typer.Option("--table-only", help="Run nothing: make the tables of what is there.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="List the cells and which are done.")] = False,
    print_plan: Annotated[
        bool, typer.Option("--print-plan", help="Print the shipped plan, to copy and edit.")
    ] = False,
    json: Json = False,
) -> int:
    """Erase with every eraser, audit each, and set them side by side; about 4 hours on 2 cores as shipped."""
    from oubliette.bench.audit.plan import read_plan
    from oubliette.bench.shipped import plan_text

    if print_plan:
        typer.echo(plan_text("audit").rstrip())
        return 0
    if out is None:
        raise typer.BadParameter("name a folder for the benchmark", param_hint="--out")
    made = read_plan(plan)
    if dry_run:
        from oubliette.bench.audit.run import states

        rows = [["cell", "subject", "concept", "seed", "state"]]
        rows += [[c.key, c.subject.name, c.target.name, str(c.seed), state] for c, state in states(made, out)]
        typer.echo(show.columns(rows))
        return 0
    from oubliette.bench.audit.bench import bench_audit
    from oubliette.train.progress import progress

    with progress("bench audit", len(made.cells())) as tick:
        done = bench_audit(
            out,
            made,
            jobs=jobs,
            subjects=subject or (),
            run=not table_only,
            progress=lambda count, total, note: tick(count, note),
        )
    if json:
        show.as_json(done.to_dict())
    else:
        typer.echo(done.markdown().rstrip())
        typer.echo(f"written: {done.out}")
    return 0


@app.command("guard", epilog=GUARD_EXAMPLES)
def guard(
    out: Annotated[
        Path | None, typer.Option(help="Folder for masks, users and tables; what it holds is not run again.")
    ] = None,
    plan: Annotated[str, typer.Option(help="The shipped plan 'guard', or a YAML file.")] = "guard",
    jobs: Annotated[int, typer.Option(help="Processes that share the work.", min=1)] = 1,
    table_only: Annotated[
        bool, typer.Option("--table-only", help="Run nothing: make the tables of what is there.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="List what would be run.")] = False,
    print_plan: Annotated[
        bool, typer.Option("--print-plan", help="Print the shipped plan, to copy and edit.")
    ] = False,
    json: Json = False,
) -> int:
    """Learn masks with every learner, fine-tune under each; about 4 hours on 2 cores as shipped."""
    from oubliette.bench.shipped import plan_text

    if print_plan:
        typer.echo(plan_text("guard").rstrip())
        return 0
    if out is None:
        raise typer.BadParameter("name a folder for the benchmark", param_hint="--out")
    from oubliette.bench.guard.plan import read_plan

    made = read_plan(plan)
    if dry_run:
        rows = [["learn", one.key] for one in made.learning()] + [["use", cell.key] for cell in made.cells()]
        typer.echo(show.columns(rows))
        return 0
    from oubliette.bench.guard.bench import bench_guard
    from oubliette.train.progress import progress

    with progress("bench guard", len(made.learning()) + len(made.cells())) as tick:
        done = bench_guard(
            out,
            made,
            jobs=jobs,
            run=not table_only,
            progress=lambda count, total, note: tick(count, note),
        )
    if json:
        show.as_json(done.to_dict())
    else:
        typer.echo(done.markdown().rstrip())
        typer.echo(f"written: {done.out}")
    return 0
