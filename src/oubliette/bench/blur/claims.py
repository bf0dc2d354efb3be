"""What BLUR and its re-analysis claim, held against the cells."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean, harmonic_mean

from oubliette.bench.blur.figures import by_subject, measures, recovery
from oubliette.bench.blur.plan import Plan
from oubliette.bench.blur.run import Outcome
from oubliette.bench.unlearning.figures import Found, word_of
from oubliette.eval.controls import GOLD
from oubliette.eval.statistics import t_interval

__all__ = ["claims_of"]

Cells = dict[tuple[str, int], Outcome]


@dataclass(frozen=True)
class Claim:
    """A cell's difference, above 0 where the claim holds; None where the cell says nothing of it."""

    says: str
    measure: str
    of: Callable[[Outcome, Cells], float | None]


def claims_of(plan: Plan, outcomes: Sequence[Outcome]) -> list[Found]:
    """Each claim with the mean difference over erasers, its 95 % t interval over them (each the mean over its
    runs; with one eraser, over runs), and whether it holds.
    """
    called = {subject.name: GOLD for subject in plan.subjects if subject.control == GOLD}
    cells: Cells = {(called.get(one.subject, one.subject), one.seed): one for one in outcomes}
    return [*(_held(claim, plan, cells) for claim in _CLAIMS), *_simple(plan, outcomes)]


def _measure(name: str) -> Callable[[Outcome, Cells], float | None]:
    return lambda one, _: measures(one).get(name)


def _less(more: str, less: str) -> Callable[[Outcome, Cells], float | None]:
    def of(one: Outcome, _: Cells) -> float | None:
        found = measures(one)
        return found[more] - found[less] if more in found and less in found else None

    return of


def _names(one: Outcome, _: Cells) -> float | None:
    """By how much names between the words lower the recall of the same facts."""
    if "keyword retain" not in one.recall:
        return None
    return one.recall["keyword retain, alone"] - one.recall["keyword retain"]


def _tiers(more: str, less: str, protocol: str) -> Callable[[Outcome, Cells], float | None]:
    def of(one: Outcome, _: Cells) -> float | None:
        if more not in one.tiers or less not in one.tiers:
            return None
        found = recovery(one, protocol)
        return found[more] - found[less]

    return of


def _above_gold(tier: str) -> Callable[[Outcome, Cells], float | None]:
    """Under equal steps, less what the same tier does to a model that never knew."""

    def of(one: Outcome, cells: Cells) -> float | None:
        gold = cells.get((GOLD, one.seed))
        if tier not in one.tiers or gold is None or tier not in gold.tiers:
            return None
        return recovery(one, "steps")[tier] - recovery(gold, "steps")[tier]

    return of


_CLAIMS = (
    Claim("what must stay is answered worse beside a question of what was to go", "drop", _measure("drop")),
    Claim("more of what was to go is said beside a question of what must stay", "leak", _measure("leak")),
    Claim("names put between the words cost answers that must stay", "keyword", _names),
    Claim("a name among the choices costs choices that must stay", "choices", _less("choices", "distractor")),
    Claim("what shares a value with what was to go is lost more", "retain", _less("retain", "neighbour")),
    *(
        Claim(f"tier {tier} brings back more than of gold", "recovery, steps", _above_gold(tier))
        for tier in ("hi", "mid", "lo")
    ),
    Claim("after an epoch, hi brings back more than mid", "recovery, epoch", _tiers("hi", "mid", "epoch")),
    Claim("after an epoch, mid brings back more than lo", "recovery, epoch", _tiers("mid", "lo", "epoch")),
    Claim("under equal steps, hi brings back more than mid", "recovery, steps", _tiers("hi", "mid", "steps")),
    Claim("under equal steps, mid brings back more than lo", "recovery, steps", _tiers("mid", "lo", "steps")),
    Claim(
        "the same wordings of other entities bring back more than other facts of the same ones",
        "recovery, steps",
        _tiers("syntactic", "hi", "steps"),
    ),
)


def _held(claim: Claim, plan: Plan, cells: Cells) -> Found:
    values = []
    for name in plan.erasers:
        own = [claim.of(one, cells) for one in cells.values() if one.subject == name]
        there = [value for value in own if value is not None]
        if there:
            values.append(there)
    # One model alone: its runs are all there is to tell chance by.
    each = values[0] if len(values) == 1 else [fmean(own) for own in values]
    return _found(claim.says, claim.measure, each)


def _simple(plan: Plan, outcomes: Sequence[Outcome]) -> list[Found]:
    """Whether plain ascent balances forgetting and keeping in pairs as well as the others, seed by seed."""
    if not plan.simple:
        return []
    sides: dict[bool, dict[int, list[float]]] = {True: {}, False: {}}
    for name, group in by_subject(outcomes).items():
        for one in group if name in plan.erasers else ():
            found = measures(one)
            if "paired forget" in found and "paired retain" in found:
                balance = harmonic_mean([max(1 - found["paired forget"], 0.0), found["paired retain"]])
                sides[name in plan.simple].setdefault(one.seed, []).append(balance)
    seeds = [seed for seed in sides[True] if seed in sides[False]]
    values = [fmean(sides[True][seed]) - fmean(sides[False][seed]) for seed in seeds]
    return [_found("plain ascent does better than the others in pairs", "balance in pairs", values)]


def _found(says: str, measure: str, values: Sequence[float]) -> Found:
    if not values:
        return Found(says, measure, None, None, None, 0, "not run")
    made = t_interval(values)
    if made.low is None or made.high is None:
        return Found(says, measure, made.value, None, None, 1, "undecided")
    return Found(
        says, measure, made.value, made.low, made.high, made.n, word_of(made.high, made.low, down=False)
    )
