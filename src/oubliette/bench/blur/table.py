"""The BLUR benchmark's tables: separate and combined prompts, what tiers bring back, what they hold."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

from oubliette.bench.blur.figures import MEASURES, by_subject, measures, recovery
from oubliette.bench.blur.run import Outcome
from oubliette.bench.words import NOTHING, mean_of, percent, plain
from oubliette.data.tiers import TIERS

__all__ = ["Table", "answer_table", "combined_table", "recovery_table", "score_table", "tier_table"]

Table = tuple[list[str], list[list[str]]]
"""The head, and the rows."""


def combined_table(outcomes: Sequence[Outcome]) -> Table:
    """A row a subject: each measure in percent, ± half the 95 % t interval over runs."""
    there = {name for outcome in outcomes for name in measures(outcome)}
    names = [name for name in MEASURES if name in there]
    rows = []
    for subject, group in by_subject(outcomes).items():
        found = [measures(one) for one in group]
        rows.append(
            [subject, str(len(group)), *(percent([one.get(name) for one in found]) for name in names)]
        )
    return ["eraser", "runs", *names], rows


def recovery_table(outcomes: Sequence[Outcome]) -> Table:
    """A row a subject: points by which each tier raised the target, after an epoch and at best over equal
    steps.
    """
    there = [name for name in TIERS if any(name in one.tiers for one in outcomes)]
    rows = []
    for subject, group in by_subject(outcomes).items():
        own = [one for one in group if one.tiers]
        if own:
            cells = [
                percent([recovery(one, protocol).get(name) for one in own])
                for protocol in ("epoch", "steps")
                for name in there
            ]
            rows.append([subject, str(len(own)), *cells])
    heads = [f"{name}, {protocol}" for protocol in ("epoch", "equal steps") for name in there]
    return ["eraser", "runs", *heads], rows


def tier_table(outcomes: Sequence[Outcome]) -> Table:
    """A row a tier: what it holds, its rows, the steps of an epoch, how like the target it is."""
    rows = []
    for name, about in TIERS.items():
        found = [one.tiers[name] for one in outcomes if name in one.tiers]
        if found:
            like = plain(f"{fmean(one.similarity for one in found):.3f}")
            likest = plain(f"{fmean(one.nearest for one in found):.3f}")
            spans = [_span([one.rows for one in found]), _span([one.epoch for one in found])]
            rows.append([name, about, *spans, like, likest])
    return [
        "tier",
        "what it holds",
        "rows",
        "steps of an epoch",
        "edit similarity to the target",
        "to the likest",
    ], rows


def score_table(outcomes: Sequence[Outcome]) -> Table:
    """A row a subject: right answers in percent, perplexity of right answers and the template ratio
    (geometric means over rows, then the mean over runs), seconds of erasing.
    """
    rights = ["separate forget", "separate retain"]
    names = list(dict.fromkeys(name for one in outcomes for name in one.scores))
    rows = []
    for subject, group in by_subject(outcomes).items():
        right = [percent([one.right.get(name) for one in group]) for name in rights]
        scores = [mean_of([one.scores.get(name) for one in group], _short) for name in names]
        seconds = mean_of([one.seconds for one in group], lambda value: f"{value:.0f}")
        rows.append([subject, *right, *scores, seconds])
    return ["eraser", "right forget", "right retain", *names, "seconds"], rows


def answer_table(outcomes: Sequence[Outcome]) -> Table:
    """A row a prompt that asks for both, and what the base and every subject said to it (the first run's)."""
    first = {name: group[0] for name, group in by_subject(outcomes).items() if group[0].examples}
    rows = []
    for place, shown in enumerate(next(iter(first.values())).examples if first else ()):
        said = [one.examples[place]["said"].strip() or NOTHING for one in first.values()]
        rows.append([shown["prompt"].replace("\n", " / "), shown["form"], *said])
    return ["prompt", "form", *first], rows


def _span(values: Sequence[int]) -> str:
    return str(values[0]) if len(set(values)) == 1 else f"{min(values)} to {max(values)}"


def _short(value: float) -> str:
    return f"{value:.2f}" if value < 100 else f"{value:.1e}"
