"""`oubliette bench`: a command for each benchmark, all with the same options."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from oubliette.commands import show
from oubliette.commands.erase import Json

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

#: Name -> the help's first line, a subject for the examples, and further plans that ship.
_COMMANDS = {
    "erasure": (
        "Erase with every method, judge alike, attack the leaders: the leaderboard; 3 hours on 2 cores.",
        "UCE",
        ("tuning",),
    ),
    "audit": (
        "Erase with every eraser, audit each, and set them side by side; 4 hours on 2 cores as shipped.",
        "UCE",
        (),
    ),
    "guard": (
        "Learn masks with every learner, fine-tune under each; 4 hours on 2 cores as shipped.",
        "saliency",
        (),
    ),
    "unlearning": (
        "Unlearn with every method on a language model, attack each alike, and hold the findings against it.",
        "NPO",
        ("text-tuning",),
    ),
    "smoothing": (
        "Erasers of language models with every smoother, relearned alike.",
        "NPO",
        (),
    ),
    "continual": (
        "Streams of deletion requests: every method on the same records, in several orders, then attacked.",
        "FIT",
        ("fit-tuning",),
    ),
}

#: The shipped plan of a benchmark whose own name is none.
_PLANS = {"continual": "fit"}


@app.callback()
def bench() -> None:
    """Put every method at hand through the same thing, and make the table."""


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


def _add(name: str, about: str, subject: str, further: tuple[str, ...]) -> None:
    """The command of one benchmark."""
    begin, shipped = f"  oubliette bench {name}", _PLANS.get(name, name)
    lines = [
        f"{begin} --out runs/{name} --jobs 2",
        f"{begin} --out runs/{name} --subject {subject}",
        *(f"{begin} --plan {plan} --out runs/{plan}" for plan in further),
        f"{begin} --out runs/{name} --table-only",
        f"{begin} --print-plan > my-plan.yaml",
    ]

    @app.command(name, help=about, epilog="\b\nExamples:\n" + "\n".join(lines))
    def command(
        out: Out = None,
        plan: Plan = shipped,
        subject: Subjects = None,
        jobs: Jobs = 1,
        shard: InShards = None,
        table_only: TableOnly = False,
        dry_run: Dry = False,
        print_plan: PrintPlan = False,
        json: Json = False,
    ) -> int:
        if print_plan:
            from oubliette.bench.shipped import plan_text

            typer.echo(plan_text(plan).rstrip())
            return 0
        if out is None:
            raise typer.BadParameter("name a folder for the benchmark", param_hint="--out")
        from oubliette.bench.runner import BENCHMARKS, Shard
        from oubliette.bench.runner import bench as run
        from oubliette.core.progress import progress

        benchmark = BENCHMARKS.get(name)
        made, share = benchmark.read_plan(plan), None if shard is None else Shard.parse(shard)
        states = benchmark.states(made, out)
        if dry_run:
            typer.echo(show.columns([["cell", "state"], *([cell.key, state] for cell, state in states)]))
            return 0
        with progress(f"bench {name}", len(states), "cells") as tick:
            done = run(
                benchmark,
                out,
                made,
                jobs=jobs,
                subjects=subject or (),
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


for _name, _about in _COMMANDS.items():
    _add(_name, *_about)
