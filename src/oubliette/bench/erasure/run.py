"""One cell of the erasing benchmark after the other: erased, saved, opened, drawn, judged, kept when done."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from oubliette.bench.cells import Cell
from oubliette.bench.erasure.attacked import audit_states
from oubliette.bench.erasure.figures import CellFigures, figures_of, ranked
from oubliette.bench.erasure.plan import Plan
from oubliette.bench.folder import seal, whole
from oubliette.core.manifest import read_manifest, write_json

__all__ = ["ROW", "done", "finished", "leading", "run_cell", "samples_of", "states"]

#: Not those of the erasers' own pictures, nor of any other command's evaluation.
_EVALUATION_SEED = 1000
#: What the erased model is called in a cell's evaluation.
ROW = "erased"
_DONE, _SAMPLES = "evaluation.json", "samples.jsonl"


def leading(plan: Plan, cells: Sequence[CellFigures]) -> list[str]:
    """The erasers that were run on every concept of the plan, all their cells done, best first."""
    wanted = Counter(cell.subject.name for cell in plan.cells())
    there = Counter(cell.subject for cell in cells)
    whole = {
        subject.name
        for subject in plan.everyone
        if subject.control is None and subject.only is None and there[subject.name] == wanted[subject.name]
    }
    return ranked([cell for cell in cells if cell.subject in whole])


def run_cell(plan: Plan, cell: Cell, out: Path) -> float:
    """Erase, save, open, draw, judge; the seconds that took."""
    from oubliette.backends import open_model
    from oubliette.bench.subjects import concept_of, open_subject
    from oubliette.eval.evaluate import compare
    from oubliette.eval.pictures.sampling import Sampling

    started = time.monotonic()
    base = open_model(plan.base)
    with open_subject(cell, base, out / "models", out / "latents") as model:
        evaluation = compare(
            {ROW: model},
            base,
            [concept_of(cell, base)],
            n=plan.n,
            each=plan.each,
            seed=_EVALUATION_SEED + cell.seed,
            cache=out / "cache",
            sampling=Sampling(steps=plan.sampling_steps, guidance=plan.guidance),
        )
    folder = _folder(out, cell)
    folder.mkdir(parents=True, exist_ok=True)
    evaluation.write_samples(folder / _SAMPLES)
    write_json(folder / "facts.json", _facts(cell, out))
    evaluation.write(folder / _DONE)  # it says that the cell is done
    seal(*_files(folder))
    return time.monotonic() - started


def finished(cells: Sequence[Cell], out: Path) -> list[CellFigures]:
    """The figures of those of the cells that are done, in their order."""
    found = []
    for cell in cells:
        if done(out, cell):
            folder = _folder(out, cell)
            facts = json.loads((folder / "facts.json").read_text("utf-8"))
            found.append(figures_of(cell, folder / _DONE, ROW, facts))
    return found


def samples_of(plan: Plan, out: Path, concept: str, subjects: Sequence[str]) -> dict[str, Path]:
    """The first seed's samples on a concept by subject, in the subjects' order, of cells that are done."""
    found = {
        cell.subject.name: _folder(out, cell) / _SAMPLES
        for cell in plan.cells()
        if (cell.target.name, cell.seed) == (concept, 0) and done(out, cell)
    }
    return {name: found[name] for name in subjects if name in found}


def states(plan: Plan, out: Path) -> list[tuple[Cell, str]]:
    """Every cell of a plan with whether it is done or to do; the leaders' further ones and audits as far as
    they are known.
    """
    own = plan.cells()
    leaders = leading(plan, finished(own, out))
    cells = own + plan.further_cells(leaders)
    erased = [(cell, "done" if done(out, cell) else "to do") for cell in cells]
    return erased + [(cell, f"audit: {state}") for cell, state in audit_states(plan, leaders, out)]


def _facts(cell: Cell, out: Path) -> dict[str, Any]:
    """What the erasure left in its record: its seconds, and how much of the model it changed."""
    folder = out / "models" / cell.key
    if not folder.is_dir():
        return {}
    record = read_manifest(folder)
    return {
        "seconds": record.get("seconds", {}),
        "solution": record.get("solution"),
        "changed": len(record.get("changed", [])),
    }


def _folder(out: Path, cell: Cell) -> Path:
    return out / "cells" / cell.key


def done(out: Path, cell: Cell) -> bool:
    """Whether `out` holds the cell's outcome."""
    return whole(*_files(_folder(out, cell)))


def _files(folder: Path) -> list[Path]:
    return [folder / name for name in (_DONE, _SAMPLES, "facts.json")]
