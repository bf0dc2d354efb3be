"""The benchmark of streams in Markdown: the ends, the curves at the checkpoints, and the claims."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

from oubliette.bench.streams.figures import Curve, Held
from oubliette.bench.streams.plan import MEASURES
from oubliette.bench.streams.run import Outcome
from oubliette.bench.words import NOTHING, markdown, mean_of, plain
from oubliette.core.numbers import plain as signed

__all__ = ["claim_table", "curve_table", "measure_table"]

Found = Mapping[str, Mapping[int, Mapping[str, float]]]


def measure_table(outcomes: Sequence[Outcome], found: Found) -> str:
    """A row a subject: the mean of each measure over orders, ± half its 95 % t interval, what ran, and the
    seconds a request.
    """
    groups: dict[str, list[Outcome]] = defaultdict(list)
    for outcome in outcomes:
        groups[outcome.subject].append(outcome)
    there = {name for cells in found.values() for cell in cells.values() for name in cell}
    names = [name for name in MEASURES if name in there]
    rows = []
    for subject, group in groups.items():
        cells = list(found[subject].values())
        ran: Counter[str] = Counter()
        for outcome in group:
            ran.update(outcome.facts["methods"])
        said = ", ".join(f"{method} {count}" for method, count in sorted(ran.items()))
        row = [subject, str(len(group)), *(_mean([cell.get(name) for cell in cells]) for name in names)]
        spent = [outcome.facts["seconds a request"] for outcome in group]
        rows.append([*row, said, mean_of(spent, lambda value: f"{value:.2f}")])
    return markdown(["eraser", "orders", *names, "requests run", "seconds a request"], rows)


def curve_table(curves: Mapping[str, Sequence[Curve]], checkpoints: Sequence[int]) -> str:
    """A row a subject: "F.D. / R.U." at each checkpoint, means over orders; against twins in brackets, where
    there are some.
    """
    rows = []
    for subject, group in curves.items():
        cells = []
        for place in range(len(checkpoints)):
            plain_pair = _pair([(one.forgetting[place], one.utility[place]) for one in group])
            twins = [
                (one.forgetting_twin[place], one.utility_twin[place])
                for one in group
                if one.forgetting_twin[place] is not None
            ]
            cells.append(f"{plain_pair} ({_pair(twins)})" if twins else plain_pair)
        rows.append([subject, *cells])
    return markdown(["eraser", *(f"after {count}" for count in checkpoints)], rows)


def claim_table(found: Sequence[Held]) -> str:
    """A row a claim and pair: the mean over orders with its interval, and whether it holds."""
    rows = []
    for one in found:
        value = NOTHING if one.value is None else signed(f"{one.value:+.2f}")
        if one.low is not None and one.high is not None:
            value += f" [{signed(f'{one.low:+.2f}')}, {signed(f'{one.high:+.2f}')}]"
        rows.append([one.says, one.who, one.measure, f"{value}, {one.bound}", str(one.n), one.word])
    return markdown(["claim", "of", "measure", "mean over orders", "n", "holds"], rows)


def _mean(values: Sequence[float | None]) -> str:
    return mean_of(values, lambda value: f"{value:.2f}")


def _pair(pairs: Sequence[tuple[float | None, float | None]]) -> str:
    sides = zip(*pairs, strict=True)
    means = [[value for value in side if value is not None] for side in sides]
    return " / ".join(plain(f"{sum(side) / len(side):.2f}") for side in means)
