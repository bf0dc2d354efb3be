"""The leaderboard in pictures: erased against kept, seen prompts against withheld ones, and the time it
takes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from oubliette.bench.erasure.figures import CellFigures, balance
from oubliette.bench.erasure.table import ordered
from oubliette.bench.plotting import COLOURS, GOLD, canvas, save

__all__ = ["draw_plots"]

_GOLD = "gold"
Point = tuple[float, float] | None


def draw_plots(
    cells: Sequence[CellFigures], names: Sequence[str], controls: Sequence[str], path: Path | str
) -> Path | None:
    """Three panels as one PNG, a numbered point a subject (means over its cells); None where there are no
    erasers.

    Of the controls gold alone is shown: the others lie in the corners, and would press all erasers into one.
    1: leakage on withheld prompts against what is kept of the kind; 2: leakage in-set against withheld; 3:
    balance against seconds of erasing (logarithmic).
    """
    shown = [name for name in names if name == _GOLD or name not in controls]
    groups = {name: [cell for cell in cells if cell.subject == name] for name in shown}
    groups = {name: groups[name] for name in ordered(cells, names, controls) if groups.get(name)}
    if not groups:
        return None
    figure, panels = canvas(1, 3, width=5.2, height=4.6)
    views: list[tuple[str, str, str, Callable[[list[CellFigures]], Point]]] = [
        ("kept of the same kind, %", "leakage on withheld prompts, %", "Erased against kept", _erased_kept),
        ("leakage on in-set prompts, %", "leakage on withheld prompts, %", "Does it generalise?", _splits),
        ("seconds of erasing", "balance, %", "What time buys", _time),
    ]
    for axes, (across, up, title, place) in zip(panels[0], views, strict=True):
        for number, (name, group) in enumerate(groups.items(), start=1):
            point = place(group)
            if point is not None:
                _mark(axes, point, number, name)
        axes.set_xlabel(across)
        axes.set_ylabel(up)
        axes.set_title(title, fontsize=11)
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(color="#e6e6e6", lw=0.6)
    panels[0][1].axline((0, 0), slope=1, color="#999999", lw=0.8, ls=(0, (3, 2)))
    panels[0][2].set_xscale("log")
    panels[0][2].set_ylim(-3, 103)
    handles, labels = panels[0][1].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=5, frameon=False, fontsize=9)
    return save(figure, Path(path))


def _erased_kept(group: list[CellFigures]) -> Point:
    kept = [
        fmean(own) for cell in group if (own := [cell.kept[k] for k in ("near", "far") if k in cell.kept])
    ]
    leaked = [cell.leakage["withheld"] for cell in group if "withheld" in cell.leakage]
    return (100 * fmean(kept), 100 * fmean(leaked)) if kept and leaked else None


def _splits(group: list[CellFigures]) -> Point:
    pairs = [
        (c.leakage["in-set"], c.leakage["withheld"])
        for c in group
        if {"in-set", "withheld"} <= set(c.leakage)
    ]
    return (100 * fmean(p[0] for p in pairs), 100 * fmean(p[1] for p in pairs)) if pairs else None


def _time(group: list[CellFigures]) -> Point:
    spent = [cell.seconds for cell in group if cell.seconds is not None]
    return (max(0.1, fmean(spent)), 100 * balance(group)) if spent else None


def _mark(axes: Any, point: tuple[float, float], number: int, name: str) -> None:
    gold = name == _GOLD
    colour = GOLD if gold else COLOURS[number % len(COLOURS)]
    label = f"{number}  {name}"
    axes.plot(*point, marker="D" if gold else "o", color=colour, ms=11, ls="", alpha=0.85, label=label)
    axes.annotate(str(number), point, ha="center", va="center", fontsize=6.5, color="white")
