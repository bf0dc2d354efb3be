"""What an audit will cost, before it is begun: passes, pictures, seconds, memory."""

from __future__ import annotations

import sys
import time
from dataclasses import asdict, dataclass
from typing import Any

from oubliette.audit.context import AuditContext, Described
from oubliette.audit.relearning import points_of
from oubliette.audit.suite import EvaluationRow, RelearnRow
from oubliette.train.cost import Cost

__all__ = ["Planned", "PlannedRow", "cost_of", "plan", "units_of"]

#: Samples that are timed.
_PICTURES = 4
#: A backward pass takes about two forwards' time.
_BACKWARD = 2


@dataclass(frozen=True)
class PlannedRow:
    """A row with its cost over all subjects and runs, and the seconds that the timed steps make of it.

    `sweep` counts the runs, on the model alone, that seek the worst learning rate before the row's own.
    """

    id: str
    title: str
    note: str
    subjects: int
    runs: int
    forwards: int
    backwards: int
    pictures: int
    seconds: float
    sweep: int = 0


@dataclass(frozen=True)
class Planned:
    """All rows, and the process's (or the device's) peak memory in MiB while a few steps were timed.

    An upper estimate: what is in the cache already, and what an early success spares, is not taken off.
    """

    rows: list[PlannedRow]
    seconds: float
    memory_mib: float
    memory_of: str

    def to_dict(self) -> dict[str, Any]:
        """Plain data, as `--json` prints it."""
        return asdict(self)


def cost_of(spec: Any, described: Described, bench: AuditContext) -> Cost:
    """A row's cost on one subject in one run, looking included."""
    return described.cost + _looking(spec, described, bench)


def units_of(spec: Any, described: Described, bench: AuditContext) -> int:
    """A row's share of the work, in forward passes over all subjects and runs."""
    if described.skip:
        return 1
    cost = cost_of(spec, described, bench)
    return (cost.forwards + _BACKWARD * cost.backwards) * _times(spec, described, bench) or 1


def plan(bench: AuditContext) -> Planned:
    """Every row's cost, timed on a few short steps; weights are as before."""
    described = [bench.driver.describe(spec) for spec in bench.suite.rows]
    forward = _forward_seconds(bench)
    item = _item_seconds(bench, forward)
    rows = []
    for key, spec, made in zip(bench.suite.ids(), bench.suite.rows, described, strict=True):
        cost, times = cost_of(spec, made, bench), 0 if made.skip else _times(spec, made, bench)
        # A trained item is one forward and one backward; what is left of the forwards draws or searches.
        seconds = cost.backwards * item + max(0, cost.forwards - cost.backwards) * forward
        rows.append(
            PlannedRow(
                id=key,
                title=made.title,
                note=made.skip,
                subjects=1 if isinstance(spec, EvaluationRow) else len(bench.subjects(spec)),
                runs=bench.suite.seeds if isinstance(spec, RelearnRow) else 1,
                forwards=cost.forwards * times,
                backwards=cost.backwards * times,
                pictures=cost.pictures * times,
                seconds=round(seconds * times, 1),
                sweep=made.sweep,
            )
        )
    memory, of = _peak(bench.base.model)
    return Planned(rows, round(sum(row.seconds for row in rows), 1), round(memory, 1), of)


def _times(spec: Any, described: Described, bench: AuditContext) -> int:
    if isinstance(spec, EvaluationRow):
        return 1
    runs = bench.suite.seeds if isinstance(spec, RelearnRow) else 1
    return runs * len(bench.subjects(spec)) + described.sweep


def _looking(spec: Any, described: Described, bench: AuditContext) -> Cost:
    if isinstance(spec, EvaluationRow):
        made = bench.evaluator.plan(n=spec.n, each=spec.each, near_n=spec.near_n, seed=bench.seed)
        pictures = made.pictures(1 + (bench.gold is not None) + len(spec.controls))
    elif isinstance(spec, RelearnRow):
        pictures = len(points_of(spec, bench.suite, described.steps)) * bench.meter.pictures
    else:
        pictures = described.looks * bench.meter.pictures
    return Cost(forwards=pictures * bench.evaluator.sampling.passes, pictures=pictures)


def _forward_seconds(bench: AuditContext) -> float:
    """One item through the network once, drawing: timed after a first drawing that only warms up."""
    model, how = bench.base.model, bench.evaluator.sampling.shortened()
    prompts = list(bench.meter.target.prompts[:_PICTURES])

    def ask() -> None:
        how.make(model, prompts, range(len(prompts)))

    ask()
    started = time.monotonic()
    ask()
    return (time.monotonic() - started) / (len(prompts) * how.passes)


def _item_seconds(bench: AuditContext, forward: float) -> float:
    """One item forwards and backwards: timed on the first fine-tuning row, three forwards where there is
    none.
    """
    spec = next((row for row in bench.suite.rows if isinstance(row, RelearnRow)), None)
    timed = getattr(bench.driver, "seconds_an_item", None)
    if spec is None or timed is None:
        return forward * (1 + _BACKWARD)
    return float(timed(spec, bench.model.model))


def _peak(model: Any) -> tuple[float, str]:
    """Peak memory so far in MiB: the device's where the model is on one, else the process's own."""
    device = getattr(model, "device", None)
    if device is not None and device.type == "cuda":
        import torch

        return torch.cuda.max_memory_allocated(device) / 2**20, "the GPU's memory"
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10), "this process"
