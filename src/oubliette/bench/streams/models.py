"""The models that streams begin with and are held against: fine-tuned until they know records by heart."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from oubliette.bench.folder import seal, whole
from oubliette.bench.streams.plan import Plan, Twin
from oubliette.core.errors import UserError
from oubliette.core.manifest import write_json
from oubliette.core.numbers import percent
from oubliette.data.questions import QA
from oubliette.eval.text.deletion import Known, known
from oubliette.world.records.records import Record, Records, make_records

__all__ = [
    "LEARNED",
    "RETAINED",
    "knowledge",
    "learned",
    "questions_of",
    "readings",
    "records_of",
    "shuffled",
    "texts_of",
    "train_twin",
    "untaught_of",
]

LEARNED, RETAINED = "learned", "retained"


def records_of(plan: Plan, copies: int = 0) -> Records:
    """The plan's records."""
    return make_records(plan.forget, plan.retain, copies, plan.seed)


def shuffled(plan: Plan, order: int, copies: int = 0) -> list[Record]:
    """The requests of one order, copies among them; a whole one where there are no fewer requests than
    records.
    """
    from oubliette.workflows.continual.requests import permuted

    found: Any = records_of(plan, copies).forget
    records: Any = permuted(found, order)
    return list(records[: plan.asked + copies])


def texts_of(records: Sequence[Record]) -> list[QA]:
    """The texts, as training sees them."""
    return [QA("", record.text, id=record.id) for record in records]


def questions_of(records: Sequence[Record]) -> list[QA]:
    """The questions."""
    return [QA(record.question, record.answer, id=record.id) for record in records]


def train_twin(plan: Plan, twin: Twin, out: Path) -> float:
    """Fine-tune the base on all records but the twin's, save it, and note what it knows of all; its seconds.

    UserError where it has too few of the tokens of a half right that it was taught.
    """
    import torch

    from oubliette.backends import open_model
    from oubliette.train.tasks.answering import Answering
    from oubliette.train.tuning.budget import Budget
    from oubliette.train.tuning.tune import tune

    started = time.monotonic()
    made = records_of(plan)
    gone = {record.id for record in untaught_of(plan, twin)}
    halves = {
        "forget": [record for record in made.forget if record.id not in gone],
        "retain": list(made.retain),
    }
    taught = [*halves["forget"], *halves["retain"]]
    rows = [*texts_of(taught), *questions_of(taught)]
    learn = plan.learn
    model: Any = open_model(plan.base)
    steps = learn.epochs * -(-len(rows) // learn.batch)
    budget = Budget(
        pictures=len(rows),
        steps=steps,
        batch=learn.batch,
        learning_rate=learn.learning_rate,
        warm_up=min(learn.warm_up, steps - 1),
        schedule="linear",
        seed=learn.seed,
    )
    folder = out / "models" / twin.key
    work = folder.with_name(f"{twin.key}.work")  # one that was cut short goes on from there
    tune(model, Answering(model, rows), "full", budget, keep=True, checkpoint=work)
    every = (*made.forget, *made.retain)
    found = known(model, texts_of(every), questions_of(every), plan.tokens)
    for half, records in halves.items():
        right = sum(found[record.id].accuracy for record in records) / max(1, len(records))
        if records and right < learn.least:
            raise UserError(
                f"model '{twin.name}' has {percent(right, '.1f')} of the {half} half's tokens right after "
                f"{learn.epochs} epochs, and {percent(learn.least, '.0f')} are needed: what is not known "
                "cannot be forgotten; give more epochs (learn.epochs), or another learn.learning_rate"
            )
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        facts = {"records": plan.model_dump(include={"forget", "retain", "seed"})}
        model.save(folder, record=facts, dtype=torch.float32)  # not rounded: it is what was just asked
    path = _path(out, twin)
    path.parent.mkdir(parents=True, exist_ok=True)
    seconds = time.monotonic() - started
    write_json(path, {"model": twin.name, "seconds": round(seconds, 1), "known": readings(found)})
    seal(path)
    shutil.rmtree(work, ignore_errors=True)
    return seconds


def learned(out: Path, twin: Twin) -> bool:
    """Whether `out` holds the model and what it knows."""
    return whole(_path(out, twin)) and (out / "models" / twin.key).is_dir()


def knowledge(out: Path, name: str) -> dict[str, Known] | None:
    """What a model that was trained knows of each record; None where it is not there."""
    path = _path(out, Twin(name=name))
    return _known(json.loads(path.read_text("utf-8"))["known"]) if whole(path) else None


def readings(found: dict[str, Known]) -> dict[str, list[float]]:
    """As plain data."""
    return {name: [round(value, 6) for value in asdict(one).values()] for name, one in found.items()}


def _known(found: dict[str, list[float]]) -> dict[str, Known]:
    return {name: Known(*values) for name, values in found.items()}


def untaught_of(plan: Plan, twin: Twin) -> Sequence[Record]:
    """What a twin is not taught."""
    if twin.order is None:
        return records_of(plan).forget[: twin.gone]
    return shuffled(plan, twin.order)[: twin.gone]


def _path(out: Path, twin: Twin) -> Path:
    return out / "cells" / f"model-{twin.key}.json"
