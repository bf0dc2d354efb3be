"""Help whose many options stand under headings."""

from __future__ import annotations

from typing import Any

from typer.core import TyperCommand

__all__ = ["HEADINGS", "Grouped"]

#: Heading -> the parameters that stand under it, whichever command they are of; all others under the last.
HEADINGS = {
    "Arguments": "recipe",
    "Model and result": "model folder base gold novel novel_data out save cache control",
    "Concepts and data": (
        "concept anchor kind prompts retain forget other data freeze stream illegal innocent benign mask "
        "erased styles objects order"
    ),
    "How": (
        "method policy policy_set encoder scope surgery smoother seed steps set_ suite n guidance learner "
        "budget of relearned pictures "
        "each batch user stability form templates against"
    ),
    "Questions": "system shots template",
    "The attack": "attack probe cases rows replay mode at points runs sweep rate kept sampling_steps",
    "Verdict": "check judge reference require_leakage require_erased report",
    "This run": "checkpoints resume dry_run print_suite json licence",
}
_HEADING_OF = {name: heading for heading, names in HEADINGS.items() for name in names.split()}


class Grouped(TyperCommand):
    """A command with headings in plain help, where typer heeds them in boxes alone."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the options under their headings."""
        sections: dict[str, list[tuple[str, str]]] = {heading: [] for heading in HEADINGS}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None:
                sections[_HEADING_OF.get(str(parameter.name), "This run")].append(record)
        for heading, rows in sections.items():
            if rows:
                with formatter.section(heading):
                    formatter.write_dl(rows)
