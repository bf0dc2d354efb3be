"""The tables of the benchmark on real photographs, as markdown."""

from __future__ import annotations

from typing import Any

from oubliette.core.numbers import ends, number, percent
from oubliette.eval.result import ConceptFigures, Evaluation
from oubliette.eval.statistics import Rate
from oubliette.eval.verdict import describe_share

#: The base's own row in an evaluation.
BASE = "base"
Cells = dict[tuple[str, str, int], tuple[Evaluation, dict[str, float]]]


def share(rate: Rate) -> str:
    """A rate in percent with its interval."""
    return f"{number(rate.value)} {ends(rate.low, rate.high)}"


def leakage_cells(figures: ConceptFigures) -> list[str]:
    """Rates and leakage on both splits, in percent."""
    cells = []
    for split in ("in-set", "withheld"):
        found = figures.leakage_of(split)
        if found is None:
            cells += ["-", "-"]
            continue
        estimate = found.leakage
        cells += [
            f"{number(found.rate.value)} ({number(found.base.value)}, floor {number(found.floor.value)})",
            "not told: the base is at the floor" if estimate is None else describe_share(estimate),
        ]
    return cells


def kept_cells(figures: ConceptFigures) -> list[str]:
    """The other classes' rates over the base's: all of them, and the neighbour alone."""
    utility = figures.utility
    kept = [None, None] if utility is None else [utility.ira, utility.ira_near]
    return [
        "-"
        if k is None or k.ratio is None
        else f"{k.ratio.value:.2f} [{k.ratio.low:.2f}, {k.ratio.high:.2f}]"
        for k in kept
    ]


def rates_by_class(figures: ConceptFigures) -> dict[str, Rate]:
    """The judge's rate on each other class's prompts."""
    if figures.utility is None:
        return {}
    return {key.removeprefix("object: "): rate for key, rate in figures.utility.per_concept.items()}


def base_table(facts: dict[str, Any], evaluations: dict[str, Evaluation]) -> None:
    """How well the judge knows photographs, and how often the base's pictures show their prompt."""
    judge = facts["judge"]
    print(
        f"\nJudge: {percent(judge['accuracy'], '.1f')} of {judge['n']} test photographs named rightly "
        f"({percent(judge['accuracy_on_reconstructions'], '.1f')} after the VAE's round trip, "
        f"{judge['reconstruction_db']} dB).\n"
    )
    following: dict[str, Rate] = {}
    for name, evaluation in evaluations.items():
        figures = evaluation.row(BASE).concepts[0]
        following |= {n: rate for n, rate in rates_by_class(figures).items() if n not in following}
        found = figures.leakage_of("in-set")
        if found is not None:
            following[name] = found.base
    print("| class | judge right on test photographs, % | base follows its prompt, % |\n|---|---|---|")
    for name in facts["classes"]:
        right = judge["accuracy_by_class"].get(name)
        print(
            f"| {name} | {'-' if right is None else number(right)} "
            f"| {share(following[name]) if name in following else '-'} |"
        )


def tables(names: list[str], cells: Cells) -> None:
    """Leakage and what was kept, one line an erasure; then every other class as a ratio to the base."""
    print(
        "\n| concept | method | seed | in-set rate (base), % | leakage in-set, % | withheld rate (base), % "
        "| leakage withheld, % | others / base | neighbour / base | seconds |\n|" + "---|" * 10
    )
    for (concept, method, seed), (evaluation, seconds) in cells.items():
        figures = evaluation.row("erased").concepts[0]
        line = [*leakage_cells(figures), *kept_cells(figures)]
        spent = seconds["prepare"] + seconds["optimise"]
        print(f"| {concept} | {method} | {seed} | {' | '.join(line)} | {spent:.0f} |")
    print("\nEach other class's rate over the base's on the same prompts and seeds:\n")
    print(f"| concept | method | seed | {' | '.join(names)} |\n|" + "---|" * (len(names) + 3))
    for (concept, method, seed), (evaluation, _) in cells.items():
        after = rates_by_class(evaluation.row("erased").concepts[0])
        before = rates_by_class(evaluation.row(BASE).concepts[0])
        ratios = [
            f"{after[n].value / before[n].value:.2f}" if n in after and before[n].value > 0 else "-"
            for n in names
        ]
        print(f"| {concept} | {method} | {seed} | {' | '.join(ratios)} |")
