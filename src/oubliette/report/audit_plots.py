"""An audit's curves as inline SVG: leakage along an attack's steps, and below it what the attack leaves."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from oubliette.audit.result import GOLD, MODEL, NOVEL, Curve, Reading, RowResult
from oubliette.eval.rows import BASE
from oubliette.eval.statistics import Estimate
from oubliette.report.colours import CONTROL_COLOURS, MODEL_COLOURS
from oubliette.report.plots import (
    _BOUND,
    _CLIP,
    _FIXED,
    _GRID,
    _MUTED,
    _PAPER,
    WIDTH,
    _Palette,
)

__all__ = ["SUBJECT_COLOURS", "resistance_plot"]

#: The CSS variable of each subject's colour, the same everywhere on the page.
SUBJECT_COLOURS = {
    MODEL: MODEL_COLOURS[0],
    GOLD: CONTROL_COLOURS["gold"],
    NOVEL: MODEL_COLOURS[2],
    BASE: CONTROL_COLOURS[BASE],
}


class _Subjects(_Palette):
    """The palette of the model and what it is held against."""

    def __init__(self) -> None:
        self._rows = SUBJECT_COLOURS
        self._variables = [*_FIXED, *dict.fromkeys(SUBJECT_COLOURS.values())]


def resistance_plot(row: RowResult, level: float, index: int) -> str:
    """Leakage over steps (logarithmic), and what is kept of the rest: the model filled, its control hollow.

    One run has its intervals; of several the mean is a line and every run a fainter one.
    """
    palette = _Subjects()
    kept = any(reading.kept is not None for curve in row.curves for reading in curve.readings)
    figure, panels = _panels(kept)
    panels[0].axhline(level, color=palette.fixed(_BOUND), lw=1, ls=(0, (3, 2)))
    for subject in (NOVEL, GOLD, MODEL):
        runs = row.of(subject)
        _draw(panels[0], runs, subject, "leakage", palette)
        if kept:
            _draw(panels[1], runs, subject, "kept", palette)
    steps = sorted({reading.step for curve in row.curves for reading in curve.readings})
    names = ["leakage", "kept of the rest"]
    for panel, name in zip(panels, names, strict=False):
        _finish(panel, name, palette)
    for panel in panels:
        panel.set_xticks([math.log1p(step) for step in steps], [str(step) for step in steps])
        panel.set_xlim(-0.06 * math.log1p(steps[-1]), 1.04 * math.log1p(steps[-1]))
    panels[-1].set_xlabel("steps of the attack")
    return palette.render(figure, f"audit{index}", f"{row.title}: leakage and what is kept, by step")


def _panels(both: bool) -> tuple[Any, Sequence[Any]]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    figure = Figure(
        figsize=(WIDTH, 3.3 if both else 2.2), layout=ConstrainedLayoutEngine(w_pad=0.02, h_pad=0.03)
    )
    FigureCanvasAgg(figure)
    if not both:
        return figure, [figure.add_subplot()]
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(2, 1))
    upper.tick_params(labelbottom=False)
    return figure, [upper, lower]


def _draw(axes: Any, runs: Sequence[Curve], subject: str, what: str, palette: _Subjects) -> None:
    colour = palette.row(subject)
    face = colour if subject == MODEL else palette.fixed(_PAPER)
    courses = [points for run in runs if (points := _points(run, what))]
    if len(courses) > 1:
        for points in courses:
            axes.plot(*_line(points), color=colour, lw=0.8, alpha=0.45, zorder=2)
        mean = _mean(courses)
        axes.plot(*zip(*mean, strict=True), color=colour, lw=2, marker="o", ms=5, mfc=face, zorder=4)
        return
    for points in courses:
        axes.plot(*_line(points), color=colour, lw=1.8, zorder=3)
        for reading, estimate in points:
            x = math.log1p(reading.step)
            low = _CLIP[0] if estimate.low is None else max(estimate.low, _CLIP[0])
            high = _CLIP[1] if estimate.high is None else min(estimate.high, _CLIP[1])
            axes.plot([x, x], [low, high], color=colour, lw=1, alpha=0.55, zorder=2)
            marker = "x" if reading.broken else "o"
            axes.plot(
                [x], [_within(estimate.value)], marker=marker, ms=5.5, mfc=face, mec=colour, mew=1.5, zorder=4
            )


def _points(curve: Curve, what: str) -> list[tuple[Reading, Estimate]]:
    found = ((reading, getattr(reading, what)) for reading in curve.readings)
    return [(reading, estimate) for reading, estimate in found if estimate is not None]


def _line(points: Sequence[tuple[Reading, Estimate]]) -> tuple[list[float], list[float]]:
    return (
        [math.log1p(reading.step) for reading, _ in points],
        [_within(estimate.value) for _, estimate in points],
    )


def _mean(courses: Sequence[Sequence[tuple[Reading, Estimate]]]) -> list[tuple[float, float]]:
    values: dict[int, list[float]] = {}
    for points in courses:
        for reading, estimate in points:
            values.setdefault(reading.step, []).append(estimate.value)
    return [(math.log1p(step), _within(sum(v) / len(v))) for step, v in sorted(values.items())]


def _within(value: float) -> float:
    return min(max(value, _CLIP[0]), _CLIP[1])


def _finish(axes: Any, name: str, palette: _Subjects) -> None:
    axes.set_ylim(*_CLIP)
    axes.set_yticks([0, 0.5, 1.0], ["0 %", "50 %", "100 %"])
    axes.set_title(name, loc="left", size=9, color=palette.fixed(_MUTED), pad=4)
    palette.style(axes)
    axes.grid(axis="y", color=palette.fixed(_GRID), lw=0.6)
