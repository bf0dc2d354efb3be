"""The numbers of one stream by name, its curves, and what the plan's claims come to."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from oubliette.bench.streams.models import LEARNED, RETAINED, knowledge, records_of
from oubliette.bench.streams.plan import MEASURES, Claim, Plan
from oubliette.bench.streams.run import Outcome
from oubliette.eval.statistics import t_interval
from oubliette.eval.text.deletion import Known, closeness, degree, score

__all__ = ["Curve", "Held", "References", "curve", "held", "measures"]


@dataclass(frozen=True)
class References:
    """What streams are held against: the records' ids by half, what the model that learned all and the one
    that learned the retain half alone know of each, and the models retrained at checkpoints, by name.
    """

    forget: tuple[str, ...]
    retain: tuple[str, ...]
    start: Mapping[str, Known]
    end: Mapping[str, Known]
    twins: Mapping[str, Mapping[str, Known]]

    @classmethod
    def read(cls, plan: Plan, out: Path) -> References | None:
        """Those in `out`; None while the first two are not there."""
        start, end = knowledge(out, LEARNED), knowledge(out, RETAINED)
        if start is None or end is None:
            return None
        made = records_of(plan)
        twins = {twin.name: knowledge(out, twin.name) for twin in plan.models()}
        return cls(
            tuple(record.id for record in made.forget),
            tuple(record.id for record in made.retain),
            start,
            end,
            {name: found for name, found in twins.items() if found is not None},
        )


@dataclass(frozen=True)
class Curve:
    """F.D. and R.U. at each checkpoint against the interpolated reference, and against retrained twins (None
    where there is none).
    """

    forgetting: list[float]
    utility: list[float]
    forgetting_twin: list[float | None]
    utility_twin: list[float | None]


def curve(plan: Plan, outcome: Outcome, references: References) -> Curve:
    """After k requests the forget part is what was asked for, the retain part everything else."""
    found = Curve([], [], [], [])
    for count in plan.checkpoints:
        known = outcome.known(f"after {count}")
        asked = outcome.asked[:count]
        left = [name for name in (*references.forget, *references.retain) if name not in set(asked)]
        parts = (
            (found.forgetting, found.forgetting_twin, asked, references.forget),
            (found.utility, found.utility_twin, left, references.retain),
        )
        name = RETAINED if count == len(references.forget) else f"without-{plan.orders[outcome.seed]}-{count}"
        twin = references.twins.get(name)
        for values, twins, ids, part in parts:
            done = count / len(references.forget)
            values.append(degree(known, ids, references.start, references.end, part, done))
            twins.append(None if twin is None else closeness(score(known, ids), score(twin, ids)))
    return found


def measures(plan: Plan, outcome: Outcome, references: References) -> dict[str, float]:
    """The measures of `oubliette.bench.streams.plan.MEASURES` that a cell has."""
    lines = curve(plan, outcome, references)
    made: dict[str, float | None] = {
        "F.D.": lines.forgetting[-1],
        "R.U.": lines.utility[-1],
        "mean F.D.": _mean(lines.forgetting),
        "mean R.U.": _mean(lines.utility),
        "R.U. since the first": lines.utility[-1] - lines.utility[0] if len(lines.utility) > 1 else None,
    }
    if plan.twins:
        made["F.D. (twins)"] = _mean(lines.forgetting_twin)
        made["R.U. (twins)"] = _mean(lines.utility_twin)
    last = outcome.known(f"after {plan.checkpoints[-1]}")
    done = plan.checkpoints[-1] / len(references.forget)

    def near(known: Mapping[str, Known], ids: Sequence[str]) -> float:
        return degree(known, ids, references.start, references.end, references.forget, done)

    groups: dict[str, list[dict[str, Known]]] = defaultdict(list)
    for state in outcome.states:
        kind = "relearning" if state.startswith("relearned") else "rounding" if state.endswith("bits") else ""
        if kind:
            groups[kind].append(outcome.known(state))
    for kind, states in groups.items():
        ids = list(states[0])
        made[f"F.D. moved by {kind}"] = max(abs(near(one, ids) - near(last, ids)) for one in states)
        if kind == "relearning":
            made["recovered"] = (max(score(one, ids) for one in states) - score(last, ids)) / 100
    return {name: value for name in MEASURES if (value := made.get(name)) is not None}


@dataclass(frozen=True)
class Held:
    """What a claim came to for one pair: the mean over orders, its 95 % t interval, and a word."""

    says: str
    measure: str
    who: str
    bound: str
    value: float | None
    low: float | None
    high: float | None
    n: int
    word: str


def held(plan: Plan, cells: Mapping[str, Mapping[int, Mapping[str, float]]]) -> list[Held]:
    """Each claim of the plan held against measures by subject and order."""
    return [_held(claim, against, cells) for claim in plan.claims for against in (claim.against or [""])]


def _held(claim: Claim, against: str, cells: Mapping[str, Mapping[int, Mapping[str, float]]]) -> Held:
    own, other = cells.get(claim.subject, {}), cells.get(against, {})
    name = claim.measure
    values = [
        found[name] - (other[seed][name] if against else 0.0)
        for seed, found in own.items()
        if name in found and (not against or name in other.get(seed, {}))
    ]
    who = f"{claim.subject} − {against}" if against else claim.subject
    bound = f"over {claim.above:g}" if claim.above is not None else f"under {claim.below:g}"
    if not values:
        return Held(claim.says, name, who, bound, None, None, None, 0, "not run")
    made = t_interval(values)
    low, high, word = made.low, made.high, "undecided"
    if low is not None and high is not None:
        if claim.above is not None:
            word = "yes" if low > claim.above else "no" if high < claim.above else word
        elif claim.below is not None:
            word = "yes" if high < claim.below else "no" if low > claim.below else word
    return Held(claim.says, name, who, bound, made.value, low, high, len(values), word)


def _mean(values: Sequence[float | None]) -> float | None:
    there = [value for value in values if value is not None]
    return sum(there) / len(there) if there else None
