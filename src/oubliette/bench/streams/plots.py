"""Streams in pictures: forgetting degree and retained utility as requests add up, a line an eraser."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean

from oubliette.bench.plotting import COLOURS, canvas, save
from oubliette.bench.streams.figures import Curve

__all__ = ["draw_curves"]

_DASHES = ("-", "--", ":")


def draw_curves(curves: Mapping[str, Sequence[Curve]], checkpoints: Sequence[int], path: Path) -> Path | None:
    """Two panels as one PNG, means over orders with the range between them shaded; None without a curve."""
    if not curves:
        return None
    figure, panels = canvas(1, 2, width=5.6, height=4.2)
    views = ((panels[0][0], "forgetting degree", "forgetting"), (panels[0][1], "retained utility", "utility"))
    for axes, title, side in views:
        for number, (subject, group) in enumerate(curves.items()):
            lines = [getattr(one, side) for one in group]
            means = [fmean(values) for values in zip(*lines, strict=True)]
            colour = COLOURS[number % len(COLOURS)]
            dashes = _DASHES[number // len(COLOURS) % len(_DASHES)]
            axes.plot(checkpoints, means, dashes, color=colour, lw=1.6, marker="o", ms=3, label=subject)
            if len(lines) > 1:
                low, high = ([pick(values) for values in zip(*lines, strict=True)] for pick in (min, max))
                axes.fill_between(checkpoints, low, high, color=colour, alpha=0.08, lw=0)
        axes.set_xlabel("requests")
        axes.set_ylabel(f"{title}, interpolated reference")
        axes.set_ylim(-0.03, 1.03)
        axes.set_title(title.capitalize(), fontsize=11)
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(color="#e6e6e6", lw=0.6)
    handles, labels = panels[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=6, frameon=False, fontsize=9)
    return save(figure, path)
