"""One cell of the BLUR benchmark: erased, saved, opened, asked; fine-tuned on each tier, and asked again."""

from __future__ import annotations

import json
import math
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from oubliette.bench.blur.plan import DATA, Plan, recipe_of, source_of
from oubliette.bench.blur.sheet import Sheet, sheet_of
from oubliette.bench.cells import Cell
from oubliette.bench.folder import seal, whole
from oubliette.bench.live import Live
from oubliette.bench.subjects import open_subject
from oubliette.bench.unlearning.run import write_data
from oubliette.core.manifest import read_manifest, write_json
from oubliette.data.questions import QA
from oubliette.eval.metric import open_metric
from oubliette.eval.text.answer_judge import holds
from oubliette.eval.text.metrics.anchored import anchored

__all__ = ["Outcome", "Relearned", "done", "finished", "prepare", "run_cell"]

_EXAMPLES = 4


@dataclass(frozen=True)
class Relearned:
    """How a tier brought the target back: its rows, how like the target they are (over all pairs, and to each
    target row the likest), the recall at each step looked at, and the step that ends an epoch.
    """

    rows: int
    similarity: float
    nearest: float
    epoch: int
    curve: list[tuple[int, float]]


@dataclass(frozen=True)
class Outcome:
    """What one model said to every kind of prompt.

    `recall` is the share of the base's words by group ("paired forget", of which "paired forget: forget last,
    blank" is a part, and "paired forget, alone" the same facts' separate questions), `right` the share of
    right answers, `n` how many items; `scores` are perplexity and template ratio by set.
    """

    subject: str
    seed: int
    recall: dict[str, float]
    right: dict[str, float]
    n: dict[str, int]
    scores: dict[str, float]
    tiers: dict[str, Relearned] = field(default_factory=dict)
    examples: list[dict[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    seconds: float | None = None


def prepare(plan: Plan, out: Path) -> None:
    """The world's files, where the plan is of one and `out` has none yet."""
    if plan.files is None:
        write_data(out / DATA, plan.forget)


def run_cell(plan: Plan, cell: Cell, out: Path) -> float:
    """Erase, save, open, ask; then every tier from the same start. The seconds that took."""
    from oubliette.backends import open_model

    started = time.monotonic()
    base = open_model(plan.base)
    sheet = sheet_of(plan, cell.seed, out, base)
    recipe = partial(recipe_of, sources=source_of(plan, out))
    tiers: dict[str, Relearned] = {}
    with open_subject(cell, base, out / "models", recipe=recipe, gold=plan.gold) as model:
        recall, right, n, examples = _ask(model, sheet, plan.tokens)
        scores = _scores(model, sheet)
        if cell.subject.attacked and plan.relearn is not None:
            for name, rows in sheet.tiers.items():
                tiers[name] = _relearned(model, sheet, name, rows, plan, cell.seed)
    folder = out / "models" / cell.key
    spent = read_manifest(folder).get("seconds", {}) if folder.is_dir() else {}
    path = _path(out, cell)
    path.parent.mkdir(parents=True, exist_ok=True)
    outcome = Outcome(
        subject=cell.subject.name,
        seed=cell.seed,
        recall=recall,
        right=right,
        n=n,
        scores=scores,
        tiers=tiers,
        examples=examples,
        notes=sheet.notes,
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
    found = []
    for cell in plan.cells():
        if done(out, cell):
            facts = json.loads(_path(out, cell).read_text("utf-8"))
            tiers = {
                name: Relearned(**{**one, "curve": [(step, value) for step, value in one["curve"]]})
                for name, one in facts.pop("tiers").items()
            }
            found.append(Outcome(**facts, tiers=tiers))
    return found


def _ask(
    model: Any, sheet: Sheet, tokens: int
) -> tuple[dict[str, float], dict[str, float], dict[str, int], list[dict[str, str]]]:
    """Recall, right answers and counts by group, and what is said to a few pairs."""
    said = dict(zip(sheet.prompts, Live(model, {}).answers(sheet.prompts, tokens), strict=True))
    items = [item for item in sheet.items if item.kind != "distractor"]
    anchors = [sheet.anchor(item) for item in items]
    found, alone = (
        anchored(anchors, [said[prompt] for prompt in prompts])
        for prompts in ([item.row.question for item in items], [item.alone for item in items])
    )
    recalls, rights = defaultdict[str, list[float]](list), defaultdict[str, list[bool]](list)
    for item, value, plain in zip(items, found, alone, strict=True):
        group = f"{item.kind} {item.side}"
        if item.form and not math.isnan(plain):
            recalls[f"{group}, alone"].append(float(plain))
        for name in (group, f"{group}: {item.form}") if item.form else (group,):
            if not math.isnan(value):
                recalls[name].append(float(value))
            if item.row.answer:
                rights[name].append(holds(said[item.row.question], (item.row.answer,)))
    right = {name: float(np.mean(values)) for name, values in rights.items()}
    offered = [item.row for item in sheet.items if item.kind == "distractor"]
    for kind, rows in (("separate", sheet.plainly(offered)), ("distractor", offered)):
        if rows:
            hits = open_metric("mcq").observe(Live(model, {"retain": rows}))
            right[f"{kind} choices"] = float(hits["retain"].values.mean())
    pairs = [item for item in items if (item.kind, item.side) == ("paired", "forget")]
    examples = [
        {
            "form": item.form,
            "prompt": item.row.question,
            "base": sheet.base[item.row.question],
            "said": said[item.row.question],
        }
        for item in pairs[:: max(1, len(pairs) // _EXAMPLES)][:_EXAMPLES]
    ]
    recall = {name: float(np.mean(values)) for name, values in recalls.items()}
    return recall, right, {name: len(values) for name, values in recalls.items()}, examples


def _scores(model: Any, sheet: Sheet) -> dict[str, float]:
    """Perplexity and template ratio of the right answers to separate questions."""
    found = {}
    for side in ("forget", "retain"):
        rows = [item.row for item in sheet.separate(side) if item.row.answer]
        for name in ("perplexity", "template_ratio") if rows else ():
            metric: Any = open_metric(name)
            values = metric.observe(Live(model, {"retain": rows}))["retain"].values
            value = float(metric.aggregate("retain")(values, axis=-1))
            if math.isfinite(value):  # a model that is destroyed may find an answer impossible
                found[f"{name} {side}"] = value
    return found


def _relearned(model: Any, sheet: Sheet, name: str, rows: Sequence[QA], plan: Plan, seed: int) -> Relearned:
    """Fine-tune on a tier, looking at the target's separate questions; every bit of the model returns."""
    from oubliette.train.tasks.answering import Answering
    from oubliette.train.tuning.tune import tune

    assert plan.relearn is not None
    tuning, curve = plan.relearn, list[tuple[int, float]]()
    asked = sheet.separate("forget")
    anchors = [sheet.anchor(item) for item in asked]

    def look(step: int, tuned: Any) -> None:
        said = Live(tuned, {}).answers([item.row.question for item in asked], plan.tokens)
        curve.append((step, float(np.nanmean(anchored(anchors, said)))))

    epoch = -(-len(rows) // (tuning.budget.batch * tuning.budget.accumulation))
    tune(
        model,
        Answering(model, rows),
        tuning.mode,
        tuning.budget.changed(seed=seed, steps=max(tuning.budget.steps, epoch)),
        at=sorted({*tuning.at, epoch}),
        look=look,
        options=tuning.options,
    )
    return Relearned(len(rows), *sheet.similarity[name], epoch, curve)


def _path(out: Path, cell: Cell) -> Path:
    return out / "cells" / f"{cell.key}.json"
