"""What a change does, and whether one resistance tells of another: paired differences, rank correlations."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from oubliette.bench.audit.figures import CellFigures, names_in
from oubliette.bench.audit.plan import Contrast
from oubliette.eval.statistics import Estimate, t_interval

__all__ = ["Correlation", "Difference", "correlations", "differences", "measures"]

_DRAWS = 2000
_FEWEST = 4

Measure = Callable[[CellFigures], float | None]


@dataclass(frozen=True)
class Difference:
    """With the change less without it, on one measure: the mean over pairs of runs and its t interval."""

    contrast: str
    measure: str
    estimate: Estimate


@dataclass(frozen=True)
class Correlation:
    """Spearman's rank correlation of two measures over erased models, with a bootstrap interval over
    subjects.
    """

    one: str
    other: str
    value: float
    low: float
    high: float
    cells: int
    subjects: int


def measures(cells: Sequence[CellFigures]) -> dict[str, Measure]:
    """Every measure that the cells have, by name: what leaks, what each attack brings back, what is kept.

    More is worse for the defender, but for "kept".
    """
    found: dict[str, Measure] = {}
    for split in names_in(cells, "leakage"):
        found[f"leakage {split}"] = lambda cell, key=split: cell.leakage.get(key)  # type: ignore[misc]
    for name in names_in(cells, "searched"):
        found[f"{name}, cases"] = lambda cell, key=name: _found(cell, key)  # type: ignore[misc]
    for name in names_in(cells, "relearned"):
        found[f"{name}, area"] = lambda cell, key=name: _area(cell, key)  # type: ignore[misc]
    for name in names_in(cells, "benign"):
        found[f"{name}, end"] = lambda cell, key=name: _benign(cell, key)  # type: ignore[misc]
    found["kept"] = lambda cell: float(np.mean(list(cell.kept.values()))) if cell.kept else None
    return found


def differences(cells: Sequence[CellFigures], contrast: Contrast) -> list[Difference]:
    """A contrast on every measure, paired by concept and seed over all its pairs of subjects.

    A single pair gives a value without an interval; a measure that no pair has is left out.
    """
    by_subject: dict[str, dict[tuple[str, int], CellFigures]] = defaultdict(dict)
    for cell in cells:
        by_subject[cell.subject][cell.run] = cell
    made = []
    for name, measure in measures(cells).items():
        values = []
        for with_it, without in contrast.pairs:
            for run, one in by_subject[with_it].items():
                other = by_subject[without].get(run)
                if other is None:
                    continue
                a, b = measure(one), measure(other)
                if a is not None and b is not None:
                    values.append(a - b)
        if values:
            made.append(Difference(contrast.name, name, t_interval(values)))
    return made


def correlations(
    cells: Sequence[CellFigures], pairs: Sequence[tuple[str, str]], *, seed: int = 0
) -> list[Correlation]:
    """Rank correlations of pairs of measures over the cells given; too few cells give none.

    Subjects are drawn with replacement (all their cells together), since runs of one eraser resemble each
    other.
    """
    known = measures(cells)
    made = []
    for one, other in pairs:
        rows = [(cell.subject, known[one](cell), known[other](cell)) for cell in cells]
        kept = [(subject, a, b) for subject, a, b in rows if a is not None and b is not None]
        subjects = sorted({subject for subject, _, _ in kept})
        if len(kept) < _FEWEST or len(subjects) < _FEWEST:
            continue
        groups = [np.array([(a, b) for s, a, b in kept if s == subject]) for subject in subjects]
        rng = np.random.default_rng([seed, 31])
        drawn = []
        for _ in range(_DRAWS):
            pick = rng.integers(len(groups), size=len(groups))
            value = _spearman(np.concatenate([groups[index] for index in pick]))
            if value is not None:
                drawn.append(value)
        value = _spearman(np.concatenate(groups))
        if value is None or not drawn:
            continue
        low, high = (float(end) for end in np.quantile(drawn, [0.025, 0.975]))
        made.append(Correlation(one, other, value, low, high, len(kept), len(subjects)))
    return made


def _spearman(table: np.ndarray) -> float | None:
    """Spearman's rho of two columns; None where one does not vary."""
    from scipy.stats import spearmanr

    if np.ptp(table[:, 0]) == 0 or np.ptp(table[:, 1]) == 0:
        return None
    return float(spearmanr(table[:, 0], table[:, 1]).statistic)


def _found(cell: CellFigures, name: str) -> float | None:
    found = cell.searched.get(name)
    return None if found is None else found.found


def _area(cell: CellFigures, name: str) -> float | None:
    found = cell.relearned.get(name)
    return None if found is None else found.area


def _benign(cell: CellFigures, name: str) -> float | None:
    found = cell.benign.get(name)
    return None if found is None else found.end
