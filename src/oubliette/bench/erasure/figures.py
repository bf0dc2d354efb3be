"""The numbers of one cell, and who leads."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from oubliette.bench.cells import Cell
from oubliette.eval.leakage import Leakage
from oubliette.eval.protocols.harmonic import harmonic_objects, harmonic_pair
from oubliette.eval.result import ConceptFigures, Evaluation, Row
from oubliette.eval.rows import BASE

__all__ = ["CellFigures", "balance", "figures_of", "ranked"]


@dataclass(frozen=True)
class CellFigures:
    """One subject on one concept with one seed, by the deciding judge.

    `leakage` by split, with `bounds` its interval over pictures; `kept` the share of the base's accuracy that
    is left ("near", "far", "other kinds"); `accuracy` the plain ones that the harmonic mean is made of;
    `harmonic` MACE's mean of erased, kept and synonyms; `moved` how far the pictures of all else moved (KID,
    CMMD, and the prompt's CLIP score, the last less the base's); `seconds` of erasing, None for what was not
    erased here.
    """

    subject: str
    kind: str
    concept: str
    seed: int
    verdict: str
    n: int
    leakage: dict[str, float] = field(default_factory=dict)
    bounds: dict[str, tuple[float | None, float | None]] = field(default_factory=dict)
    kept: dict[str, float] = field(default_factory=dict)
    accuracy: dict[str, float] = field(default_factory=dict)
    harmonic: float | None = None
    moved: dict[str, float] = field(default_factory=dict)
    seconds: float | None = None


def figures_of(cell: Cell, path: Path, row: str, facts: Mapping[str, Any]) -> CellFigures:
    """A cell's numbers from its evaluation's file."""
    evaluation = Evaluation.from_json(path.read_text("utf-8"))
    own, base = evaluation.row(row), evaluation.row(BASE)
    (figures,) = own.concepts
    splits = {f.split: f for f in figures.leakage if f.judge == figures.judge}
    accuracy = _accuracy(figures, splits)
    spent = facts.get("seconds") or {}
    return CellFigures(
        subject=cell.subject.name,
        kind=figures.kind,
        concept=figures.name,
        seed=cell.seed,
        verdict=figures.verdict.word,
        n=evaluation.settings.n,
        leakage={s: f.leakage.value for s, f in splits.items() if f.leakage is not None},
        bounds={s: (f.leakage.low, f.leakage.high) for s, f in splits.items() if f.leakage is not None},
        kept={} if figures.utility is None else figures.utility.left,
        accuracy=accuracy,
        harmonic=_harmonic(accuracy),
        moved=_moved(own, base),
        seconds=sum(spent.get(phase, 0.0) for phase in ("prepare", "optimise")) if spent else None,
    )


def balance(group: Sequence[CellFigures]) -> float:
    """What erasers are ranked by: the mean of the harmonic means over kinds, each the mean over its cells."""
    kinds: dict[str, list[float]] = defaultdict(list)
    for cell in group:
        kinds[cell.kind].append(cell.harmonic or 0.0)
    means = [sum(values) / len(values) for values in kinds.values()]
    return sum(means) / len(means) if means else 0.0


def ranked(cells: Sequence[CellFigures]) -> list[str]:
    """The subjects by `balance`, best first; equal ones in the order they come."""
    groups: dict[str, list[CellFigures]] = defaultdict(list)
    for cell in cells:
        groups[cell.subject].append(cell)
    return sorted(groups, key=lambda name: -balance(groups[name]))


def _accuracy(figures: ConceptFigures, splits: Mapping[str, Leakage]) -> dict[str, float]:
    found = {split: f.rate.value for split, f in splits.items()}
    if figures.utility is not None and figures.utility.ira is not None:
        found["kept"] = figures.utility.ira.rate.value
    return found


def _harmonic(accuracy: Mapping[str, float]) -> float | None:
    if "in-set" not in accuracy or "kept" not in accuracy:
        return None
    if "withheld" not in accuracy:
        return harmonic_pair(accuracy["in-set"], accuracy["kept"])
    return harmonic_objects(accuracy["in-set"], accuracy["kept"], accuracy["withheld"])


def _moved(own: Row, base: Row) -> dict[str, float]:
    found = {}
    if own.fidelity.kid is not None:
        found["KID"] = own.fidelity.kid.value
    if own.fidelity.cmmd is not None:
        found["CMMD"] = own.fidelity.cmmd.unbiased
    if own.fidelity.prompt_score is not None and base.fidelity.prompt_score is not None:
        found["prompt score"] = own.fidelity.prompt_score.value - base.fidelity.prompt_score.value
    return found
