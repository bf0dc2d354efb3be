"""The numbers of one cell by name, who is clean on separate prompts and leaks on combined ones; orders."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from statistics import fmean

from oubliette.bench.blur.run import Outcome, Relearned
from oubliette.core.numbers import percent
from oubliette.data.tiers import TIERS
from oubliette.eval.statistics import t_interval

__all__ = ["MEASURES", "by_subject", "leaking", "measures", "order_of", "orders", "recovery"]

#: What a figure is, and of what; shares of the base's words but for choices.
MEASURES = {
    "forget": "what was to go, asked alone",
    "retain": "what must stay, asked alone",
    "paired forget": "the half of a pair that was to go",
    "paired retain": "the half of a pair that must stay",
    "keyword": "what must stay, with names from the forget set put between the words",
    "choices": "right choices of what must stay",
    "distractor": "the same with a name from the forget set in the place of a wrong choice",
    "neighbour": "what must stay and shares a value with what was to go",
    "alias": "what was to go, by another name",
    "two hops": "what it leads to",
    "leak": "paired forget less the same facts asked alone",
    "drop": "paired retain's facts asked alone less paired retain",
}
_SOURCES = {
    "forget": "separate forget",
    "retain": "separate retain",
    "paired forget": "paired forget",
    "paired retain": "paired retain",
    "keyword": "keyword retain",
    "neighbour": "neighbour retain",
    "alias": "alias forget",
    "two hops": "two_hops forget",
}
_RIGHT = {"choices": "separate choices", "distractor": "distractor choices"}


def measures(outcome: Outcome) -> dict[str, float]:
    """The measures of `MEASURES` that a cell has."""
    found = {name: outcome.recall[key] for name, key in _SOURCES.items() if key in outcome.recall}
    found |= {name: outcome.right[key] for name, key in _RIGHT.items() if key in outcome.right}
    if "paired forget" in found:
        found["leak"] = found["paired forget"] - outcome.recall["paired forget, alone"]
    if "paired retain" in found:
        found["drop"] = outcome.recall["paired retain, alone"] - found["paired retain"]
    return {name: found[name] for name in MEASURES if name in found}


def recovery(outcome: Outcome, protocol: str) -> dict[str, float]:
    """By how much each tier raised the recall of the target: after one "epoch", or at its best over "steps"
    that are as many for every tier.
    """
    before = outcome.recall["separate forget"]
    # A tier is looked at where its epoch ends, where others are not: that look is not among equal steps.
    shared = set.intersection(*({step for step, _ in tier.curve} for tier in outcome.tiers.values()))
    return {name: _level(tier, protocol, shared) - before for name, tier in outcome.tiers.items()}


def _level(tier: Relearned, protocol: str, shared: set[int]) -> float:
    if protocol == "epoch":
        return dict(tier.curve)[tier.epoch]
    return max(value for step, value in tier.curve if step in shared)


def by_subject(outcomes: Sequence[Outcome]) -> dict[str, list[Outcome]]:
    """The cells of each subject."""
    found: dict[str, list[Outcome]] = defaultdict(list)
    for outcome in outcomes:
        found[outcome.subject].append(outcome)
    return dict(found)


def leaking(outcomes: Sequence[Outcome], erasers: Sequence[str], clean: float) -> list[str]:
    """The erasers of which at most `clean` is left on separate prompts and more in pairs, a sentence each:
    more where the t interval over runs lies above 0; with one run, said so, by more than a tenth.
    """
    said = []
    for name, group in by_subject(outcomes).items():
        found = [made for one in group if "leak" in (made := measures(one))]
        if name not in erasers or not found:
            continue
        alone, leak = fmean(one["forget"] for one in found), t_interval([one["leak"] for one in found])
        if alone > clean or (leak.value <= 0.1 if leak.low is None else leak.low <= 0):
            continue
        paired = fmean(one["paired forget"] for one in found)
        runs = " (one run)" if leak.low is None else ""
        said.append(f"{name}: {percent(alone)} asked alone, {percent(paired)} in pairs{runs}")
    return said


def order_of(found: dict[str, float]) -> str:
    """Tiers by what they bring back, the most first: "hi > mid > lo"; the order of `TIERS` among equals."""
    names = sorted(found, key=lambda name: (-found[name], list(TIERS).index(name)))
    return " > ".join(names)


def orders(outcomes: Sequence[Outcome], erasers: Sequence[str]) -> dict[str, str] | None:
    """The order of tiers after an epoch and under equal steps, of the means over erasers, and in how many
    cells the two differ; None where nothing was relearned.
    """
    cells = [one for one in outcomes if one.subject in erasers and one.tiers]
    if not cells:
        return None
    found = {}
    for protocol in ("epoch", "steps"):
        made = [recovery(one, protocol) for one in cells]
        names = [name for name in TIERS if all(name in one for one in made)]
        found[protocol] = order_of({name: fmean(one[name] for one in made) for name in names})
    changed = sum(order_of(recovery(one, "epoch")) != order_of(recovery(one, "steps")) for one in cells)
    return {**found, "changed": f"{changed} of {len(cells)}"}
