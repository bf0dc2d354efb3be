"""The numbers of one cell: what its audit found, a figure a column."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from oubliette.audit.result import GOLD, MODEL, Audit, Curve, Evaluated, RowResult
from oubliette.bench.cells import Cell

__all__ = ["CellFigures", "Relearned", "Searched", "figures_of", "names_in"]


@dataclass(frozen=True)
class Searched:
    """A search for prompts or a probe: the share of cases (0 to 1) that show the concept, and gold's."""

    found: float
    gold: float | None


@dataclass(frozen=True)
class Relearned:
    """A fine-tuning row: area under the resistance curve, steps to half strength (None: not reached), `end`
    leakage after the last step, gold's area and end, and the advantage over gold (natural logarithm; `sign`
    as in `oubliette.audit.result.RelearningAdvantage`, `state` why there is none).
    """

    area: float | None
    half: float | None
    end: float | None
    last: int
    gold_area: float | None
    gold_end: float | None
    advantage: float | None
    sign: str
    state: str


@dataclass(frozen=True)
class CellFigures:
    """One subject on one concept with one seed. Leakage and what is kept are shares of the base's."""

    subject: str
    kind: str
    concept: str
    seed: int
    verdict: str
    leakage: dict[str, float] = field(default_factory=dict)
    kept: dict[str, float] = field(default_factory=dict)
    searched: dict[str, Searched] = field(default_factory=dict)
    relearned: dict[str, Relearned] = field(default_factory=dict)
    benign: dict[str, Relearned] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def run(self) -> tuple[str, int]:
        """What two subjects are paired by: concept and seed."""
        return self.concept, self.seed


def figures_of(cell: Cell, audit: Audit) -> CellFigures:
    """A cell's numbers from its audit; what the audit skipped is missing."""
    evaluation = next((row for row in audit.rows if row.kind == "evaluation"), None)
    model = None if evaluation is None else _model(evaluation)
    done = [row for row in audit.rows if row.status == "done"]
    return CellFigures(
        subject=cell.subject.name,
        kind=audit.concept["kind"],
        concept=audit.concept["name"],
        seed=cell.seed,
        verdict=audit.verdict.word,
        leakage={} if model is None else _leakage(model),
        kept={} if model is None or model.figures.utility is None else model.figures.utility.left,
        searched={row.title: _searched(row) for row in done if row.kind in ("prompts", "probe")},
        relearned={row.title: _relearned(row) for row in done if row.kind == "relearn"},
        benign={row.title: _relearned(row) for row in done if row.kind == "benign"},
        seconds=float(audit.times.get("total", math.nan)),
    )


def names_in(cells: Sequence[CellFigures], what: str) -> list[str]:
    """The names that a field of the figures ("searched") has in any of the cells, in order."""
    return list(dict.fromkeys(name for cell in cells for name in getattr(cell, what)))


def _model(row: RowResult) -> Evaluated | None:
    return next((made for made in row.evaluated if made.subject == MODEL), None)


def _leakage(model: Evaluated) -> dict[str, float]:
    own = [f for f in model.figures.leakage if f.judge == model.figures.judge and f.leakage is not None]
    return {figure.split: figure.leakage.value for figure in own if figure.leakage is not None}


def _searched(row: RowResult) -> Searched:
    own, gold = row.finding(MODEL), row.finding(GOLD)
    assert own is not None
    return Searched(own.after.value, None if gold is None else gold.after.value)


def _relearned(row: RowResult) -> Relearned:
    own = row.of(MODEL)[0]
    gold = next(iter(row.of(GOLD)), None)
    told = row.sooner
    return Relearned(
        area=own.area,
        half=own.to_half,
        end=_end(own),
        last=own.readings[-1].step,
        gold_area=None if gold is None else gold.area,
        gold_end=None if gold is None else _end(gold),
        advantage=None if told is None else told.value,
        sign="" if told is None else told.sign,
        state="" if told is None else told.state,
    )


def _end(curve: Curve) -> float | None:
    last = curve.readings[-1].leakage
    return None if last is None else last.value
