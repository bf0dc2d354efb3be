"""What each eraser draws: the same prompts and seeds side by side, a row an eraser."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from oubliette.bench.plotting import canvas, save
from oubliette.eval.sample_store import SampleStore

__all__ = ["columns_of", "draw_gallery"]

_TARGETS, _NEAR, _FAR = 3, 2, 4  # columns: of each split of the concept, of the near neighbour, of all else
_GAP, _APART, _WORDS = 6, 16, 22  # pixels between pictures and between parts; characters a line of a prompt
_SHOWN, _KEPT, _LOST, _PLAIN = "#c0392b", "#2e8b57", "#bbbbbb", "#dddddd"

_SIDE = 64 + 2 * _GAP
_PARTS = ("in-set", "withheld wordings", "near neighbour", "all else")

Sample = Mapping[str, Any]


def draw_gallery(
    rows: Mapping[str, Path], cache: Path, concept: str, erased: str, path: Path | str
) -> Path | None:
    """One PNG: a row for each subject in `rows` (its samples.jsonl), in that order; None for no rows.

    The columns are a few prompts that ask for the concept (in-set, then withheld), for its near neighbour and
    for other things, the same for all. A red frame: the judge finds the concept; green: it finds what was
    asked for and was to stay; grey: it does not. `erased` is the row's name in the samples.
    """
    read = {name: _own(path_of, erased) for name, path_of in rows.items()}
    if not read:
        return None
    parts = columns_of(next(iter(read.values())), concept)
    places = [(at, part, want) for part, wanted in enumerate(parts) for at, want in enumerate(wanted)]
    lefts = [number * _SIDE + part * _APART for number, (_, part, _) in enumerate(places)]
    pictures = SampleStore(cache)
    figure, panels = canvas(1, 1, width=0.78 * len(lefts) + 2.6, height=0.74 * len(read) + 0.8)
    axes = panels[0][0]
    for down, own in enumerate(read.values()):
        by_key = {_asked(sample): sample for sample in own}
        there = [
            (left, by_key[_asked(want)])
            for left, (_, _, want) in zip(lefts, places, strict=True)
            if _asked(want) in by_key
        ]
        drawn = pictures.read([str(sample["picture"]) for _, sample in there])
        for (left, sample), picture in zip(there, drawn, strict=True):
            _place(axes, np.asarray(picture), left, down * _SIDE, _frame(sample))
    axes.set_xlim(0, lefts[-1] + _SIDE)
    axes.set_ylim(_SIDE * len(read) + 18, 0)
    axes.set_yticks([_SIDE * (down + 0.5) for down in range(len(read))], list(read), fontsize=9)
    prompts = [_folded(str(want["prompt"])) for _, _, want in places]
    middles = [left + _SIDE / 2 for left in lefts]
    axes.set_xticks(middles, prompts, fontsize=7, rotation=40, ha="left")
    axes.xaxis.tick_top()
    for number, (at, part, _) in enumerate(places):
        if at == 0:
            axes.text(lefts[number] + _GAP, _SIDE * len(read) + 2, _PARTS[part], fontsize=8, va="top")
    axes.tick_params(length=0)
    axes.set_aspect("equal")
    axes.spines[:].set_visible(False)
    return save(figure, Path(path), colours=256)


def columns_of(samples: Sequence[Sample], concept: str) -> list[list[Sample]]:
    """The samples whose prompts make the columns, spread evenly over each part: the concept in-set and
    withheld, its near neighbour (what was drawn most often of what stays), all else.
    """
    target = [each for each in samples if each["role"] == "target" and each["concept"] == concept]
    kept = [each for each in samples if each["role"] == "retained"]
    parts = [
        ([each for each in target if each["split"] == split], _TARGETS) for split in ("in-set", "withheld")
    ]
    if kept:
        near = Counter(each["concept"] for each in kept).most_common(1)[0][0]
        parts.append(([each for each in kept if each["concept"] == near], _NEAR))
        parts.append(([each for each in kept if each["concept"] != near], _FAR))
    return [_spread(part, count) for part, count in parts]


def _spread(samples: Sequence[Sample], count: int) -> list[Sample]:
    if len(samples) <= count:
        return list(samples)
    return [samples[(2 * index + 1) * len(samples) // (2 * count)] for index in range(count)]


def _own(path: Path, erased: str) -> list[Sample]:
    lines = path.read_text("utf-8").splitlines()
    return [sample for line in lines if (sample := json.loads(line))["row"] == erased]


def _asked(sample: Sample) -> tuple[Any, ...]:
    return tuple(sample[part] for part in ("role", "concept", "split", "prompt", "seed"))


def _frame(sample: Sample) -> str:
    found = next(iter(sample["hits"].values()), False)
    if sample["role"] == "target":
        return _SHOWN if found else _PLAIN
    return _KEPT if found else _LOST


def _place(axes: Any, picture: np.ndarray, left: float, top: float, colour: str) -> None:
    from matplotlib.patches import Rectangle

    left, top = left + _GAP, top + _GAP
    axes.imshow(picture, extent=(left, left + 64, top + 64, top), interpolation="nearest", zorder=1)
    frame = Rectangle((left - 2, top - 2), 68, 68, fill=False, edgecolor=colour, linewidth=2.2, zorder=2)
    axes.add_patch(frame)


def _folded(prompt: str) -> str:
    import textwrap

    return "\n".join(textwrap.wrap(prompt, _WORDS))
