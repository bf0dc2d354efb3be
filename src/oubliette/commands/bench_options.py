"""The options that every benchmark has, and how one is run and printed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from oubliette.commands import show

if TYPE_CHECKING:
    from oubliette.bench.runner import Benchmark

__all__ = [
    "Dry",
    "InShards",
    "Jobs",
    "Out",
    "Plan",
    "PrintPlan",
    "Subjects",
    "TableOnly",
    "perform",
    "planned",
    "print_it",
]

Out = Annotated[
    Path | None, typer.Option(help="Folder for cells and tables; what it holds already is not run again.")
]
Plan = Annotated[str, typer.Option(help="A shipped plan, or a YAML file.")]
Subjects = Annotated[
    list[str] | None, typer.Option("--subject", help="Run this subject's cells alone; repeatable.")
]
Jobs = Annotated[int, typer.Option(help="Processes that share the cells.", min=1)]
InShards = Annotated[
    str | None,
    typer.Option("--shard", help="I/N: run the I-th of N shares of the cells; put folders together after."),
]
TableOnly = Annotated[
    bool, typer.Option("--table-only", help="Run nothing: make the tables of what is there.")
]
Dry = Annotated[bool, typer.Option("--dry-run", help="List what would be run, and run nothing.")]
PrintPlan = Annotated[bool, typer.Option("--print-plan", help="Print the shipped plan, to copy and edit.")]


def print_it(plan: str) -> int:
    """Print a shipped plan."""
    from oubliette.bench.shipped import plan_text

    typer.echo(plan_text(plan).rstrip())
    return 0


def planned(name: str, plan: str) -> tuple[Benchmark[Any, Any], Any]:
    """A command's benchmark with the plan, shipped or in a file."""
    from oubliette.bench.runner import benchmark_for

    benchmark = benchmark_for(name, plan)
    return benchmark, benchmark.read_plan(plan)


def perform(
    name: str,
    found: Callable[[], tuple[Benchmark[Any, Any], Any]],
    out: Path | None,
    *,
    subjects: Sequence[str] | None,
    jobs: int,
    shard: str | None,
    table_only: bool,
    dry_run: bool,
    json: bool,
) -> int:
    """Run the benchmark on its plan, as `found` gives them, or list its cells, and print the tables."""
    if out is None:
        raise typer.BadParameter("name a folder for the benchmark", param_hint="--out")
    from oubliette.bench.runner import Shard
    from oubliette.bench.runner import bench as run
    from oubliette.core.progress import progress

    benchmark, plan = found()
    share = None if shard is None else Shard.parse(shard)
    states = benchmark.states(plan, out)
    if dry_run:
        typer.echo(show.columns([["cell", "state"], *([cell.key, state] for cell, state in states)]))
        return 0
    with progress(f"bench {name}", len(states), "cells") as tick:
        done = run(
            benchmark,
            out,
            plan,
            jobs=jobs,
            subjects=subjects or (),
            shard=share,
            run=not table_only,
            progress=lambda count, of, note: tick(count, note),
        )
    if json:
        show.as_json(done.to_dict())
    else:
        typer.echo(done.markdown().rstrip())
        typer.echo(f"written: {out}")
    return 0
