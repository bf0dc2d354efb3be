"""One cell: record after record is forgotten in one order, what is known is asked, the end is attacked."""

from __future__ import annotations

import json
import shutil
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from oubliette.bench.cells import Cell
from oubliette.bench.folder import seal, whole
from oubliette.bench.streams.models import (
    LEARNED,
    questions_of,
    readings,
    records_of,
    shuffled,
    texts_of,
)
from oubliette.bench.streams.plan import Plan, StreamSubject, order_of
from oubliette.core.manifest import read_object, write_json
from oubliette.core.writing import write_bytes
from oubliette.eval.text.deletion import Known, known
from oubliette.world.records.records import Record

__all__ = ["DATA", "Outcome", "done", "finished", "run_cell", "write_data"]

#: The folder of the records' files within a benchmark's.
DATA = "data"
#: Keeps the attacker's seeds apart from the erasers'.
_ATTACKER = 1000


@dataclass(frozen=True)
class Outcome:
    """What one stream came to.

    `asked` are the ids of the records asked for, copies left out, in their order. `states` has what is known
    of each record by state and id (probability, ROUGE, accuracy): "after K" (K of `asked`), "relearned E"
    after E epochs, "B bits"; of the attacked ones what was to be forgotten and the attacker did not see.
    `facts`: how often each method ran ("skipped": none did), and the seconds.
    """

    subject: str
    seed: int
    asked: list[str]
    states: dict[str, dict[str, list[float]]]
    facts: dict[str, Any] = field(default_factory=dict)

    def known(self, state: str) -> dict[str, Known]:
        """What is known in a state."""
        return {name: Known(*values) for name, values in self.states[state].items()}


def run_cell(plan: Plan, cell: Cell, out: Path) -> float:
    """Run the stream, ask at each checkpoint, relearn and round the last model; the seconds that took.

    A stream that was cut short goes on. Its models are removed once they were asked.
    """
    from oubliette.backends import open_model
    from oubliette.workflows.continual.run import run_stream
    from oubliette.workflows.order import Job

    started = time.monotonic()
    subject = _subject(plan, cell)
    requests = shuffled(plan, plan.orders[cell.seed], subject.copies)
    asked, places = _checkpoints(plan, requests)
    file, folder = out / DATA / f"{cell.key}.jsonl", out / "models" / cell.key
    write_bytes(file, "".join(json.dumps(one.row()) + "\n" for one in requests).encode())
    if not folder.is_dir():
        unfinished = folder.with_name(f"{folder.name}.unfinished").exists()
        job = Job(folder, check="off", report=False, resume=unfinished, show_progress=False)
        run_stream(
            file,
            order_of(subject, out / DATA, cell.seed),
            job,
            model=str(out / "models" / LEARNED),
            checkpoints=places,
        )
    streamed = time.monotonic() - started
    made = records_of(plan)
    every = (*made.forget, *made.retain)
    states: dict[str, dict[str, list[float]]] = {}
    model: Any = None
    for count, place in zip(plan.checkpoints, places, strict=True):
        model = open_model(next(folder.glob(f"{place:0{max(2, len(str(len(requests))))}d}-*")))
        states[f"after {count}"] = readings(known(model, texts_of(every), questions_of(every), plan.tokens))
    if subject.attacked:
        states |= _attacked(plan, model, [one for one in made.forget if one.id in set(asked)], cell.seed)
    stages = read_object(folder / "stream.json")["stages"]
    methods = Counter(one["method"] or "skipped" for one in stages)
    path = _path(out, cell)
    path.parent.mkdir(parents=True, exist_ok=True)
    facts = {
        "methods": dict(methods),
        "seconds a request": round(streamed / len(requests), 3),
        "seconds": round(time.monotonic() - started, 1),
    }
    write_json(path, asdict(Outcome(subject.name, cell.seed, asked, states, facts)))
    seal(path)
    shutil.rmtree(folder)
    return time.monotonic() - started


def done(out: Path, cell: Cell) -> bool:
    """Whether `out` holds the cell's outcome."""
    return whole(_path(out, cell))


def finished(plan: Plan, out: Path) -> list[Outcome]:
    """The outcomes of the cells that are done, in the plan's order."""
    paths = [_path(out, cell) for cell in plan.cells() if done(out, cell)]
    return [Outcome(**json.loads(path.read_text("utf-8"))) for path in paths]


def write_data(plan: Plan, out: Path) -> None:
    """The records' files, where `out` has none yet."""
    from oubliette.workflows.world.records import write_records

    if not (out / DATA).is_dir():
        write_records(out / DATA, forget=plan.forget, retain=plan.retain, seed=plan.seed)


def _subject(plan: Plan, cell: Cell) -> StreamSubject:
    return next(one for one in plan.everyone if one.name == cell.subject.name)


def _checkpoints(plan: Plan, requests: Sequence[Record]) -> tuple[list[str], list[int]]:
    """The ids asked for, each once, and the numbers of the requests after which so many of them had been as
    each checkpoint says; the last is the stream's end.
    """
    asked: list[str] = []
    places: dict[int, int] = {}
    for number, record in enumerate(requests, start=1):
        if record.of not in asked:
            asked.append(record.of)
            places[len(asked)] = number
    found = [places[count] for count in plan.checkpoints[:-1]]
    return asked, [*found, len(requests)]


def _attacked(
    plan: Plan, model: Any, forgotten: Sequence[Record], seed: int
) -> dict[str, dict[str, list[float]]]:
    """Of every second record, after rounding the weights, and after relearning the others' texts."""
    from oubliette.attack.probes.quantize import Quantize
    from oubliette.train.tasks.answering import Answering
    from oubliette.train.tuning.budget import Budget
    from oubliette.train.tuning.tune import tune

    shown, rest = forgotten[::2], forgotten[1::2]
    states: dict[str, dict[str, list[float]]] = {}

    def ask() -> dict[str, list[float]]:
        return readings(known(model, texts_of(rest), questions_of(rest), plan.tokens))

    for bits in plan.bits:
        with Quantize(Quantize.Options(bits=bits)).altered(model):
            states[f"{bits} bits"] = ask()
    if plan.relearn is None:
        return states
    an_epoch = -(-len(shown) // plan.relearn.batch)
    epochs = {epoch * an_epoch: epoch for epoch in plan.relearn.at}

    def look(step: int, _: Any) -> None:
        states[f"relearned {epochs[step]}"] = ask()

    budget = Budget(
        pictures=len(shown),
        steps=max(epochs),
        batch=plan.relearn.batch,
        learning_rate=plan.relearn.learning_rate,
        seed=_ATTACKER + seed,
    )
    tune(model, Answering(model, texts_of(shown)), "full", budget, at=list(epochs), look=look)
    return states


def _path(out: Path, cell: Cell) -> Path:
    return out / "cells" / f"{cell.key}.json"
