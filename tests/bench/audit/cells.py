"""Cells of invented figures."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from oubliette.audit.result import Audit
from oubliette.bench.audit.figures import CellFigures, Relearned, Searched
from oubliette.bench.cells import Cell, Subject, Target


def relearned(area: float, **more: Any) -> Relearned:
    facts: dict[str, Any] = {
        "area": area,
        "half": 7.0,
        "end": 0.9,
        "last": 64,
        "gold_area": 0.4,
        "gold_end": 0.8,
        "advantage": 0.0,
        "sign": "=",
        "state": "told",
    }
    return Relearned(**{**facts, **more})


def figures(
    subject: str, seed: int = 0, *, area: float = 0.5, found: float = 0.25, **more: Any
) -> CellFigures:
    facts: dict[str, Any] = {
        "subject": subject,
        "kind": "object",
        "concept": "car",
        "seed": seed,
        "verdict": "hidden",
        "leakage": {"in-set": 0.05, "withheld": 0.1},
        "kept": {"near": 0.9, "far": 1.0},
        "searched": {"paraphrase": Searched(found, 0.125)},
        "relearned": {"full": relearned(area)},
        "benign": {"benign": relearned(0.1, end=0.2, gold_end=0.1)},
        "seconds": 100.0,
    }
    return CellFigures(**{**facts, **more})


def cell(name: str = "UCE", seed: int = 0, **more: Any) -> Cell:
    subject = Subject(name=name, **(more or {"method": "uce"}))
    return Cell(subject=subject, target=Target(name="car"), seed=seed)


def audit(**changes: Any) -> Audit:
    from synthetic_audit import make_audit

    made, _ = make_audit()
    return replace(made, **changes)
