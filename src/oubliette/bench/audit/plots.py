"""A benchmark's resistance curves in one picture: a row an attack, a column a kind, a line an eraser."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from oubliette.audit.result import GOLD, MODEL, Audit, Curve
from oubliette.bench.cells import Cell
from oubliette.bench.plotting import COLOURS, canvas, save
from oubliette.bench.plotting import GOLD as GOLD_COLOUR

__all__ = ["draw_curves"]

_STYLES = ("-", (0, (4, 1.5)), (0, (1, 1)))
_CLIP = (-0.1, 1.15)


def draw_curves(found: Sequence[tuple[Cell, Audit]], path: Path | str) -> Path | None:
    """Leakage over log(1 + step), the mean over runs, gold hollow; written as a PNG. None where nothing was
    fine-tuned.
    """
    courses = _courses(found)
    if not courses:
        return None
    titles = list(dict.fromkeys(title for title, _, _ in courses))
    kinds = list(dict.fromkeys(kind for _, kind, _ in courses))
    names = [name for name in dict.fromkeys(name for _, _, name in courses) if name != GOLD]
    figure, panels = canvas(len(titles), len(kinds), width=3.3, height=2.1)
    looks = {
        name: (COLOURS[i % len(COLOURS)], _STYLES[i // len(COLOURS) % 3]) for i, name in enumerate(names)
    }
    for i, title in enumerate(titles):
        for j, kind in enumerate(kinds):
            axes = panels[i][j]
            for name in [*names, GOLD]:
                if (title, kind, name) in courses:
                    _line(axes, courses[title, kind, name], name, looks.get(name))
            _finish(axes, title if j == 0 else "", kind if i == 0 else "", courses, (title, kind))
            if i == len(titles) - 1:
                axes.set_xlabel("steps of the attack")
    handles, labels = [], []
    for row in panels:
        for axes in row:
            for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
                if label not in labels:
                    handles.append(handle)
                    labels.append(label)
    figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False, fontsize=9)
    return save(figure, Path(path))


def _courses(found: Sequence[tuple[Cell, Audit]]) -> dict[tuple[str, str, str], list[Curve]]:
    """Curves by attack, kind and subject; gold's once a run, whichever cell it comes from."""
    made: dict[tuple[str, str, str], list[Curve]] = defaultdict(list)
    seen: set[tuple[str, str, int]] = set()
    for cell, audit in found:
        kind = audit.concept["kind"]
        for row in audit.rows:
            for curve in row.curves:
                if curve.subject == MODEL and cell.subject.control is None:
                    made[row.title, kind, cell.subject.name].append(curve)
                elif curve.subject == GOLD and (row.title, kind, curve.seed) not in seen:
                    seen.add((row.title, kind, curve.seed))
                    made[row.title, kind, GOLD].append(curve)
    return made


def _line(axes: Any, curves: Sequence[Curve], name: str, look: tuple[str, Any] | None) -> None:
    values: dict[int, list[float]] = defaultdict(list)
    for curve in curves:
        for reading in curve.readings:
            if reading.leakage is not None:
                values[reading.step].append(reading.leakage.value)
    steps = sorted(values)
    x = [math.log1p(step) for step in steps]
    y = np.clip([float(np.mean(values[step])) for step in steps], *_CLIP)
    if look is None:
        axes.plot(x, y, color=GOLD_COLOUR, lw=2.4, marker="o", mfc="white", ms=6, zorder=5, label="gold")
    else:
        axes.plot(x, y, color=look[0], ls=look[1], lw=1.6, marker="o", ms=3.5, label=name)


def _finish(axes: Any, title: str, kind: str, courses: Any, key: tuple[str, str]) -> None:
    own = [curves for (attack, where, _), curves in courses.items() if (attack, where) == key]
    steps = sorted({r.step for curves in own for curve in curves for r in curve.readings})
    if not steps:
        axes.set_axis_off()
        return
    axes.axhline(0.5, color="#999999", lw=0.8, ls=(0, (3, 2)))
    axes.set_ylim(*_CLIP)
    axes.set_yticks([0, 0.5, 1.0], ["0 %", "50 %", "100 %"])
    axes.set_xticks([math.log1p(step) for step in steps], [str(step) for step in steps])
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#e6e6e6", lw=0.6)
    if title:
        axes.set_ylabel(title)
    if kind:
        axes.set_title(kind, fontsize=11)
