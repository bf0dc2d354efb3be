"""The guard's benchmark as Markdown: what masks cost the illegal user and the innocent; stability."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from oubliette.bench.guard.plan import LESS, NONE
from oubliette.bench.guard.run import Used
from oubliette.bench.words import NOTHING, markdown, percent
from oubliette.core.numbers import number
from oubliette.core.numbers import percent as share_of

__all__ = ["stability_table", "use_table"]

Group = list[Used]


def use_table(used: Sequence[Used]) -> str:
    """A row an arm, mode and guard: the illegal rate at the end and its area, the innocent rates at the end,
    and both against the same run without a mask (mitigation: 1 - illegal area / area without; cost: 1 -
    innocent rate / rate without); what the user's step takes. In percent, with half the 95 % t interval over
    runs.
    """
    innocent = list(dict.fromkeys(name for one in used for name in one.innocent))
    head = ["arm", "mode", "guard", "frozen, % of parameters", "runs", "illegal at the end", "illegal area"]
    head += [f"{name} at the end" for name in innocent]
    head += ["mitigation", "innocent cost", "state, MiB", "step, ms"]
    without = {(one.arm, one.mode, one.seed): one for one in used if one.guard == NONE}
    rows = []
    for (arm, mode, guard, share), group in _groups(used).items():
        if guard == LESS:
            guard = f"{guard}, drift as at {share_of(share, 'g')}"
        pairs = [(one, without[key]) for one in group if (key := (one.arm, one.mode, one.seed)) in without]
        row = [arm, mode, guard, number(group[0].frozen_share), str(len(group))]
        row += [percent([one.illegal[-1] for one in group]), percent([one.area for one in group])]
        row += [percent([one.innocent[name] for one in group if name in one.innocent]) for name in innocent]
        row += [percent(_over(pairs, _mitigation)), percent(_over(pairs, _cost))]
        mib = sum(one.state_mib for one in group) / len(group)
        seconds = sum(one.step_seconds for one in group) / len(group)
        rows.append([*row, f"{mib:.0f}", f"{1000 * seconds:.0f}"])
    return markdown(head, rows)


def stability_table(learned: Mapping[str, Mapping[str, Any]], seeds: Mapping[str, Sequence[float]]) -> str:
    """A row a learner: agreement (Jaccard over parameters) of masks from halves of the data and of different
    seeds, and seconds of learning.

    `learned` are the records of every arm and seed, by learner; `seeds` the agreements between seeds.
    """
    rows = []
    for name, facts in learned.items():
        halves = [one["parameters"] for one in facts["stability"] if one]
        chance = [one["chance"] for one in facts["stability"] if one]
        rows.append(
            [
                name,
                _number(halves),
                _number(list(seeds.get(name, ()))),
                _number(chance),
                _number(facts["seconds"], 1),
            ]
        )
    return markdown(["learner", "halves agree", "seeds agree", "by chance", "seconds"], rows)


def _groups(used: Sequence[Used]) -> dict[tuple[str, str, str, float], Group]:
    found: dict[tuple[str, str, str, float], Group] = defaultdict(list)
    arms = list(dict.fromkeys(one.arm for one in used))
    modes = list(dict.fromkeys(one.mode for one in used))
    order = sorted(used, key=lambda one: (arms.index(one.arm), modes.index(one.mode), one.share or 0.0))
    for one in order:
        found[one.arm, one.mode, one.guard, one.share or 0.0].append(one)
    return found


def _over(
    pairs: Sequence[tuple[Used, Used]], measure: Callable[[Used, Used], float | None]
) -> list[float | None]:
    return [measure(one, free) for one, free in pairs if one is not free]


def _mitigation(one: Used, free: Used) -> float | None:
    return None if free.area == 0 else 1 - one.area / free.area


def _cost(one: Used, free: Used) -> float | None:
    own, other = sum(one.innocent.values()), sum(free.innocent.values())
    return None if other == 0 else 1 - own / other


def _number(values: Sequence[float], digits: int = 2) -> str:
    return f"{sum(values) / len(values):.{digits}f}" if values else NOTHING
