"""The page's plots as inline SVG whose colours follow the page's light or dark scheme."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from oubliette.eval.result import ConceptFigures, Evaluation, Row
from oubliette.eval.statistics import Estimate
from oubliette.eval.verdict import as_shown
from oubliette.report.colours import colour_names, placeholder, with_variables
from oubliette.report.data import Curve
from oubliette.report.words import label

#: Inches. At 72 points an inch a plot is as wide as a phone's column, so its text needs no zooming there.
WIDTH = 4.3
_LINE = 0.2
_INK, _MUTED, _GRID, _PAPER, _BOUND = range(5)
_FIXED = ("--ink", "--muted", "--line", "--card", "--bound")
_CLIP = (-0.14, 1.16)


def leakage_plot(evaluation: Evaluation, concept: int) -> str:
    """Leakage of every row on one concept with intervals: filled for in-set prompts, hollow for withheld
    ones.
    """
    rows = [(row, row.concepts[concept]) for row in evaluation.rows if row.concepts[concept].leakage]
    palette = _Palette(evaluation)
    figure, axes = _canvas(len(rows))
    axes.axvspan(_CLIP[0], evaluation.bounds.leakage, color=palette.fixed(_BOUND), alpha=0.10, lw=0)
    axes.axvline(evaluation.bounds.leakage, color=palette.fixed(_BOUND), lw=1, ls=(0, (3, 2)))
    for place, (row, figures) in enumerate(rows):
        for split, offset, hollow in _offsets(figures):
            found = figures.leakage_of(split)
            if found is not None and found.leakage is not None:
                _whisker(
                    axes,
                    as_shown(found.leakage)[0],
                    place + offset,
                    palette.row(row.name),
                    palette,
                    hollow=hollow,
                )
    _finish(axes, [label(row.name, evaluation) for row, _ in rows], palette)
    return palette.render(
        figure, f"leak{concept}", f"Leakage of {rows[0][1].name if rows else 'the concept'} by model"
    )


def utility_plot(evaluation: Evaluation, concept: int) -> str:
    """What was kept of the base's accuracy: IRA near (hollow), IRA far (filled) and CRA (square) of every
    row.
    """
    rows = [(row, row.concepts[concept]) for row in evaluation.rows if row.concepts[concept].utility]
    palette = _Palette(evaluation)
    figure, axes = _canvas(len(rows))
    axes.axvspan(evaluation.bounds.kept, _CLIP[1], color=palette.fixed(_BOUND), alpha=0.10, lw=0)
    axes.axvline(evaluation.bounds.kept, color=palette.fixed(_BOUND), lw=1, ls=(0, (3, 2)))
    for place, (row, figures) in enumerate(rows):
        kept = figures.utility
        if kept is None:
            continue
        shown = (
            (kept.ira_near, -0.26, True, "o"),
            (kept.ira_far, 0.0, False, "o"),
            (kept.cra, 0.26, False, "s"),
        )
        for part, offset, hollow, marker in shown:
            if part is not None and part.ratio is not None:
                colour = palette.row(row.name)
                _whisker(axes, part.ratio, place + offset, colour, palette, hollow=hollow, marker=marker)
    _finish(axes, [label(row.name, evaluation) for row, _ in rows], palette)
    return palette.render(
        figure, f"kept{concept}", f"Utility kept after erasing {rows[0][1].name if rows else ''}"
    )


def curve_plot(curve: Curve, index: int) -> str:
    """A role's loss over steps: every logged value, and a running mean where there are enough of them."""
    palette = _Palette(None)
    figure, axes = _canvas(5)
    steps, values = np.asarray(curve.steps), np.asarray(curve.values)
    window = max(1, len(values) // 25)
    if window == 1:
        axes.plot(steps, values, color=palette.fixed(_BOUND), lw=1.4)
    else:
        axes.plot(steps, values, color=palette.fixed(_MUTED), lw=0.7, alpha=0.6)
        smooth = np.convolve(values, np.ones(window) / window, mode="valid")
        axes.plot(steps[window - 1 :], smooth, color=palette.fixed(_BOUND), lw=1.6)
    axes.set_xlabel("step")
    axes.margins(x=0.02, y=0.08)
    palette.style(axes)
    axes.grid(axis="y", color=palette.fixed(_GRID), lw=0.6)
    axes.locator_params(axis="y", nbins=4)
    axes.locator_params(axis="x", nbins=6, integer=True)
    return palette.render(figure, f"curve{index}", f"Loss of {curve.role} in {curve.run}")


class _Palette:
    """Placeholder colours while matplotlib draws, CSS variables once the plot is text."""

    def __init__(self, evaluation: Evaluation | None) -> None:
        rows: Sequence[Row] = evaluation.rows if evaluation else []
        self._rows: Mapping[str, str] = colour_names(
            [row.name for row in rows if row.role == "model"],
            [row.name for row in rows if row.role != "model"],
        )
        self._variables = [*_FIXED, *dict.fromkeys(self._rows.values())]

    def fixed(self, index: int) -> str:
        return placeholder(index)

    def row(self, name: str) -> str:
        return placeholder(self._variables.index(self._rows[name]))

    def style(self, axes: Any) -> None:
        for side in ("top", "right", "left"):
            axes.spines[side].set_visible(False)
        axes.spines["bottom"].set_color(self.fixed(_GRID))
        axes.tick_params(colors=self.fixed(_MUTED), length=0, labelsize=9)
        axes.xaxis.label.set(color=self.fixed(_MUTED), size=9)
        axes.set_axisbelow(True)

    def render(self, figure: Any, mark: str, label: str) -> str:
        import matplotlib

        buffer = io.StringIO()
        with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": mark}):
            figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
        svg = with_variables(buffer.getvalue(), self._variables)
        return _inline(svg, mark, label)


def _canvas(rows: int) -> tuple[Any, Any]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    figure = Figure(
        figsize=(WIDTH, 0.42 + max(rows, 1) * 1.7 * _LINE),
        layout=ConstrainedLayoutEngine(w_pad=0.02, h_pad=0.02),
    )
    FigureCanvasAgg(figure)
    return figure, figure.add_subplot()


def _whisker(
    axes: Any,
    estimate: Estimate,
    y: float,
    colour: str,
    palette: _Palette,
    *,
    hollow: bool,
    marker: str = "o",
) -> None:
    """A dot with its interval, cut at the plot's edges, with an arrow head where it was cut."""
    low = _CLIP[0] if estimate.low is None else max(estimate.low, _CLIP[0])
    high = _CLIP[1] if estimate.high is None else min(estimate.high, _CLIP[1])
    axes.plot([low, high], [y, y], color=colour, lw=1.6, solid_capstyle="round", zorder=2)
    for cut, edge, arrow in (
        (estimate.low is None or estimate.low < _CLIP[0], _CLIP[0], "<"),
        (estimate.high is None or estimate.high > _CLIP[1], _CLIP[1], ">"),
    ):
        if cut:
            axes.plot([edge], [y], marker=arrow, color=colour, ms=4, clip_on=False, zorder=3)
    face = palette.fixed(_PAPER) if hollow else colour
    value = min(max(estimate.value, _CLIP[0]), _CLIP[1])
    axes.plot([value], [y], marker=marker, ms=6, mfc=face, mec=colour, mew=1.5, zorder=4, clip_on=False)


def _finish(axes: Any, names: Sequence[str], palette: _Palette) -> None:
    axes.set_xlim(*_CLIP)
    axes.set_ylim(len(names) - 0.45, -0.55)
    axes.set_yticks(range(len(names)), names)
    axes.set_xticks([0, 0.25, 0.5, 0.75, 1.0], ["0 %", "25 %", "50 %", "75 %", "100 %"])
    palette.style(axes)
    axes.tick_params(axis="y", colors=palette.fixed(_INK), labelsize=9.5)
    axes.grid(axis="x", color=palette.fixed(_GRID), lw=0.6)


def _offsets(figures: ConceptFigures) -> list[tuple[str, float, bool]]:
    splits = list(dict.fromkeys(figure.split for figure in figures.leakage))
    if len(splits) == 1:
        return [(splits[0], 0.0, False)]
    return [(split, 0.36 * (index - (len(splits) - 1) / 2), index > 0) for index, split in enumerate(splits)]


def _inline(svg: str, mark: str, label: str) -> str:
    """An SVG fit to stand inside HTML: no prologue, ids of its own, the page's font, no fixed size."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.S)
    svg = re.sub(r'id="([^"]+)"', rf'id="{mark}-\1"', svg)
    svg = re.sub(r"url\(#([^)]+)\)", rf"url(#{mark}-\1)", svg)
    svg = re.sub(r'xlink:href="#([^"]+)"', rf'xlink:href="#{mark}-\1"', svg)
    svg = re.sub(r"font: ([\d.]+px) [^;\"]+", r"font-size: \1", svg)
    label = label.replace("&", "&amp;").replace("<", "&lt;").replace('"', "&quot;")
    head = re.sub(r'\s(width|height)="[^"]+pt"', "", svg[: svg.index(">")])
    return f'{head} role="img" aria-label="{label}"{svg[svg.index(">") :]}'
