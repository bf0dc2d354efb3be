"""One cell of the unlearning benchmark: erased, saved, opened, asked; attacked, and asked again."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from oubliette.bench.cells import Cell
from oubliette.bench.folder import seal, whole
from oubliette.bench.live import Live
from oubliette.bench.subjects import open_subject
from oubliette.bench.unlearning.plan import Plan, Tuning, recipe_of
from oubliette.core.manifest import read_manifest, write_json
from oubliette.data.questions import QA, read_questions
from oubliette.eval.metric import open_metric
from oubliette.eval.text.subject import chosen_rows

__all__ = ["DATA", "Outcome", "done", "finished", "run_cell", "write_data"]

#: The folder of the world's files within a benchmark's.
DATA = "data"
_METRICS = ("mcq", "open_qa")
Shares = dict[str, dict[str, float]]  # by set, by metric


@dataclass(frozen=True)
class Outcome:
    """What one model was found to know: shares of right answers by state, set and metric.

    States are "erased", "relearned at STEP", "SKILL at STEP", "BITS bits", "pressed: PREFIX"; sets are
    forget, withheld (the same facts in other words), retain, skills. `n` is each set's number of rows.
    """

    subject: str
    seed: int
    states: dict[str, Shares]
    n: dict[str, int]
    seconds: float | None = None
    facts: dict[str, Any] = field(default_factory=dict)


def run_cell(plan: Plan, cell: Cell, out: Path) -> float:
    """Erase, save, open, ask; then every attack from the same start. The seconds that took."""
    from oubliette.attack.probes.quantize import Quantize
    from oubliette.backends import open_model

    started = time.monotonic()
    data = out / DATA
    base = open_model(plan.base)
    sets = _asked(plan, cell, data)
    shown = _shown(data, {row.id for row in sets["forget"]})
    states: dict[str, Shares] = {}
    recipe = partial(recipe_of, data=data)
    with open_subject(cell, base, out / "models", recipe=recipe, gold=plan.gold) as model:
        states["erased"] = _ask(model, sets)
        for prefix in plan.prefixes:
            states[f"pressed: {prefix}"] = _ask(model, _only(sets, "forget", "withheld"), prefix=prefix)
        for bits in plan.bits:
            with Quantize(Quantize.Options(bits=bits)).altered(model):
                states[f"{bits} bits"] = _ask(model, sets)
        tunings = [("relearned", shown, plan.relearn)]
        tunings += [(skill, read_questions(data / f"{skill}.jsonl"), plan.unrelated) for skill in plan.skills]
        few = _only(sets, "forget", "withheld")
        for name, rows, tuning in tunings:
            if cell.subject.attacked and tuning is not None:
                states |= _tuned(model, rows, tuning, cell.seed, name, lambda: _ask(model, few))
    folder = out / "models" / cell.key
    spent = read_manifest(folder).get("seconds", {}) if folder.is_dir() else {}
    path = _path(out, cell)
    path.parent.mkdir(parents=True, exist_ok=True)
    outcome = Outcome(
        subject=cell.subject.name,
        seed=cell.seed,
        states=states,
        n={name: len(rows) for name, rows in sets.items()},
        seconds=sum(spent.get(phase, 0.0) for phase in ("prepare", "optimise")) if spent else None,
    )
    write_json(path, asdict(outcome))
    seal(path)
    return time.monotonic() - started


def done(out: Path, cell: Cell) -> bool:
    """Whether `out` holds the cell's outcome."""
    return whole(_path(out, cell))


def finished(plan: Plan, out: Path) -> list[Outcome]:
    """The outcomes of the cells that are done, in the plan's order."""
    paths = [_path(out, cell) for cell in plan.cells() if done(out, cell)]
    return [Outcome(**json.loads(path.read_text("utf-8"))) for path in paths]


def write_data(data: Path, forget: str) -> None:
    """The world's files of a forget set in the folder `data`, where there is none yet."""
    from oubliette.workflows.world.text import write_text_world

    if not data.is_dir():
        write_text_world(data, forget=forget)


def _asked(plan: Plan, cell: Cell, data: Path) -> dict[str, list[QA]]:
    """Half of the forget facts, in the wording of the forget set and in a withheld one; what must stay."""
    forget = read_questions(data / "forget.jsonl")
    half = chosen_rows(forget, len(forget) // 2, cell.seed)
    return {
        "forget": half,
        "withheld": [replace(row, question=row.paraphrases[0]) for row in half],
        "retain": chosen_rows(read_questions(data / "retain.jsonl"), plan.n, cell.seed),
        "skills": chosen_rows(read_questions(data / "skills.jsonl"), plan.n, cell.seed),
    }


def _shown(data: Path, asked: set[str]) -> list[QA]:
    """What an attacker has: the facts that are not asked, in wordings of their own."""
    return [row for row in read_questions(data / "relearn.jsonl") if row.id not in asked]


def _only(sets: Mapping[str, list[QA]], *names: str) -> dict[str, list[QA]]:
    return {name: sets[name] for name in names}


def _ask(model: Any, sets: Mapping[str, Sequence[QA]], prefix: str = "") -> Shares:
    """The share of right answers of each set by each metric that its rows allow."""
    subject = Live(model, sets, prefix)
    found: Shares = {name: {} for name in sets}
    for spec in ("open_qa",) if prefix else _METRICS:  # a prefix has no part in what choices are likely
        for name, items in open_metric(spec).observe(subject).items():
            found[name][spec] = float(items.values.mean())
    return found


def _tuned(
    model: Any,
    rows: Sequence[QA],
    tuning: Tuning,
    seed: int,
    name: str,
    look: Callable[[], Shares],
) -> dict[str, Shares]:
    """Fine-tune on the rows and look on the way; every bit of the model returns."""
    from oubliette.train.tasks.answering import Answering
    from oubliette.train.tuning.tune import tune

    found: dict[str, Shares] = {}

    def watch(step: int, tuned: Any) -> None:
        found[f"{name} at {step}"] = look()

    tune(
        model,
        Answering(model, rows[: tuning.budget.pictures]),
        tuning.mode,
        tuning.budget.changed(seed=seed),
        at=tuning.at,
        look=watch,
        options=tuning.options,
    )
    return found


def _path(out: Path, cell: Cell) -> Path:
    return out / "cells" / f"{cell.key}.json"
