"""`oubliette bench`: a command for each benchmark, all with the same options."""

from __future__ import annotations

from functools import partial

import typer

from oubliette.commands.bench_blur import BLUR_EXAMPLES, BLUR_HELP, blur
from oubliette.commands.bench_options import (
    Dry,
    InShards,
    Jobs,
    Out,
    Plan,
    PrintPlan,
    Subjects,
    TableOnly,
    perform,
    planned,
    print_it,
)
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
        "Streams of deletion requests, or learning that goes on: the plan says which; an hour on 2 cores.",
        "FIT",
        ("fit-tuning", "refresh"),
    ),
}

#: The plan of a command that has none of its own name.
_PLANS = {"continual": "fit"}


@app.callback()
def bench() -> None:
    """Put every method at hand through the same thing, and make the table."""


def _add(name: str, about: str, subject: str, further: tuple[str, ...]) -> None:
    """The command of one benchmark."""
    begin, own_plan = f"  oubliette bench {name}", _PLANS.get(name, name)
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
        plan: Plan = own_plan,
        subject: Subjects = None,
        jobs: Jobs = 1,
        shard: InShards = None,
        table_only: TableOnly = False,
        dry_run: Dry = False,
        print_plan: PrintPlan = False,
        json: Json = False,
    ) -> int:
        if print_plan:
            return print_it(plan)
        return perform(
            name,
            partial(planned, name, plan),
            out,
            subjects=subject,
            jobs=jobs,
            shard=shard,
            table_only=table_only,
            dry_run=dry_run,
            json=json,
        )


for _name, _about in _COMMANDS.items():
    _add(_name, *_about)
app.command("blur", help=BLUR_HELP, epilog=BLUR_EXAMPLES)(blur)
