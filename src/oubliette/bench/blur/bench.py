"""`oubliette bench blur`: unlearned models under combined prompts, benign relearning; one model audited."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from oubliette.bench.blur import table
from oubliette.bench.blur.claims import claims_of
from oubliette.bench.blur.figures import MEASURES, leaking, measures, orders, recovery
from oubliette.bench.blur.plan import Plan, digests, read_plan
from oubliette.bench.blur.run import Outcome, done, finished, prepare, run_cell
from oubliette.bench.cells import Cell, differing
from oubliette.bench.runner import Stage
from oubliette.bench.unlearning.figures import Found
from oubliette.bench.unlearning.table import finding_table
from oubliette.bench.words import markdown
from oubliette.core.manifest import record
from oubliette.core.numbers import percent
from oubliette.report.tables_page import Section, write_tables

__all__ = ["BLUR", "Benched", "BlurBenchmark"]


@dataclass(frozen=True)
class Benched:
    """What it came to: every cell's outcome, who leaks, orders of tiers, claims, what is not run."""

    plan: Plan
    outcomes: list[Outcome]
    leaking: list[str]
    orders: dict[str, str] | None
    claims: list[Found]
    missing: list[str]

    def sections(self) -> list[Section]:
        """The tables with what they hold above each, in the order of the page."""
        plan, outcomes = self.plan, self.outcomes
        there = {name for outcome in outcomes for name in measures(outcome)}
        left = f"; {len(self.missing)} not run" if self.missing else ""
        n = outcomes[0].n if outcomes else {}
        counted = ", ".join(f"{n[key]} {key}" for key in n if ":" not in key and "," not in key)
        notes = list(dict.fromkeys(note for outcome in outcomes for note in outcome.notes))
        made = [
            Section(
                "Separate and combined prompts",
                [
                    f"{len(outcomes)} runs of the plan '{plan.name}'{left}: {plan.base}, forget set "
                    f"'{plan.forget}'; items: {counted or 'none'}. ROUGE-L recall against the base's "
                    "answers in percent (choices: right ones); ± is half the 95 % t interval over runs.",
                    *(f"{name}: {about}" for name, about in MEASURES.items() if name in there),
                    *notes,
                ],
                *table.combined_table(outcomes),
            )
        ]
        none = f"none (at most {percent(plan.clean)} left of what was to go, and more in pairs)"
        said = self.leaking or [none]
        made.append(Section("Clean on separate prompts, leaking on combined ones", said))
        if any(outcome.tiers for outcome in outcomes):
            lines = [
                "Points of recall by which fine-tuning raised the target: after one epoch of the tier, and "
                "at best over the same steps for every tier."
            ]
            if self.orders is not None:
                lines.append(
                    f"Order after an epoch: {self.orders['epoch']}; under equal steps: "
                    f"{self.orders['steps']}; it changes in {self.orders['changed']} runs of erasers."
                )
            made.append(Section("What tiers bring back", lines, *table.recovery_table(outcomes)))
            made.append(Section("The tiers", [], *table.tier_table(outcomes)))
        made.append(Section("Right answers, perplexity, template ratio", [], *table.score_table(outcomes)))
        return made

    def markdown(self) -> str:
        """The tables, with what they hold above each."""
        parts = []
        for section in self.sections():
            parts += [f"**{section.title}**", "\n".join(f"- {line}" for line in section.lines)]
            parts.append(markdown(section.head, section.rows) if section.rows else "")
        parts += ["**Claims** (differences in points, with the 95 % t interval)", finding_table(self.claims)]
        return "\n\n".join(part for part in parts if part) + "\n"

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "plan": self.plan.model_dump(mode="json"),
            "cells": [
                {
                    **asdict(one),
                    "measures": measures(one),
                    "recovery": {each: recovery(one, each) for each in ("epoch", "steps") if one.tiers},
                }
                for one in self.outcomes
            ],
            "leaking": self.leaking,
            "orders": self.orders,
            "claims": [asdict(one) for one in self.claims],
            "missing": self.missing,
            "record": record(),
        }


class BlurBenchmark:
    """Unlearned models on combined prompts, and what benign relearning brings back."""

    name, table = "blur", "blur"
    read_plan = staticmethod(read_plan)

    def facts(self, plan: Plan) -> dict[str, Any]:
        """The plan, and the hash of each of its files."""
        return {**plan.model_dump(mode="json"), "digests": digests(plan.files)}

    def differs(self, plan: Plan, before: Mapping[str, Any]) -> str | None:
        """Subjects and runs may grow."""
        same = ("base", "gold", "forget", "files", "digests", "n", "names", "separators", "tokens", "relearn")
        return differing(self.facts(plan), before, same, grows=("runs",))

    def stages(self, plan: Plan, out: Path) -> Iterator[Stage]:
        """All cells at once, on data that is written first."""
        prepare(plan, out)
        yield Stage(plan.cells(), run_cell, done)

    def subjects(self, plan: Plan) -> list[str]:
        """Those of the plan."""
        return [subject.name for subject in plan.subjects]

    def subject_of(self, cell: Cell) -> str:
        """Its own."""
        return cell.subject.name

    def states(self, plan: Plan, out: Path) -> list[tuple[Cell, str]]:
        """Every cell."""
        return [(cell, "done" if done(out, cell) else "to do") for cell in plan.cells()]

    def benched(self, plan: Plan, out: Path) -> Benched:
        """The figures, and blur.html with example answers."""
        outcomes = finished(plan, out)
        made = Benched(
            plan=plan,
            outcomes=outcomes,
            leaking=leaking(outcomes, plan.erasers, plan.clean),
            orders=orders(outcomes, plan.erasers),
            claims=claims_of(plan, outcomes),
            missing=[cell.key for cell in plan.cells() if not done(out, cell)],
        )
        claims = [[one.says, one.measure, one.word] for one in made.claims]
        sections = [
            *made.sections(),
            Section("Claims", [], ["claim", "measure", "holds"], claims),
            Section("Pairs, and what is said to them", [], *table.answer_table(outcomes)),
        ]
        write_tables(out / "blur.html", f"BLUR: {plan.name}", plan.about, sections)
        return made


BLUR = BlurBenchmark()
