"""What models made of the same prompts and seeds, side by side: for pages, and for an audit's samples."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from oubliette.data.png import encode_png
from oubliette.eval.result import Evaluation
from oubliette.eval.rows import BASE, control_name
from oubliette.eval.sample_store import SampleStore

__all__ = ["Grid", "Line", "Picture", "make_grids"]

#: Headings of the grids by role and split, in their order on the page.
_GRIDS = (
    ("target", "in-set", "prompts of the kind the eraser was given"),
    ("target", "withheld", "withheld wordings and synonyms"),
    ("target", "csv", "prompts from the CSV"),
    ("retained", "in-set", "near neighbour, which must stay"),
)


@dataclass(frozen=True)
class Picture:
    """A PNG in base64 or, of a model that answers, a `text`; and whether the deciding judge found the line's
    concept in it (None: not judged).
    """

    png: str
    found: bool | None = None
    text: str = ""

    @classmethod
    def of(cls, sample: np.ndarray | str, found: bool | None = None) -> Picture:
        """A picture, uint8 (H, W, 3), or an answer."""
        if isinstance(sample, str):
            return cls("", found, sample)
        return cls(base64.b64encode(encode_png(sample)).decode("ascii"), found)


@dataclass(frozen=True)
class Line:
    """One prompt and seed drawn by every column of a grid."""

    prompt: str
    seed: int
    pictures: list[Picture]


@dataclass(frozen=True)
class Grid:
    """Same-seed pictures side by side: `columns` name the models, each line holds one picture a column.

    `group` puts grids of one concept under one heading; `bad` says that finding the concept is what should
    not be.
    """

    group: str
    title: str
    columns: list[str]
    lines: list[Line]
    bad: bool

    def __post_init__(self) -> None:
        object.__setattr__(self, "columns", [control_name(name) for name in self.columns])  # of older files


def make_grids(
    evaluation: Evaluation, cache: SampleStore, *, columns: Sequence[str] | None = None, lines: int = 6
) -> list[Grid]:
    """Same-seed grids for every concept: its prompts, in-set and withheld, and its near neighbour's.

    `columns` are row names of the evaluation (default: the base, every model, gold where it is there);
    pictures are read from the cache, nothing is drawn. `lines` prompts a grid.
    """
    names = list(columns) if columns is not None else _default_columns(evaluation)
    samples = {
        (s["row"], s["role"], s["kind"], s["concept"], s["split"], index): s
        for (s, index) in _numbered(evaluation.samples)
    }
    grids = []
    for figures in evaluation.rows[0].concepts:
        for role, split, title in _GRIDS:
            concept = figures.name if role == "target" else figures.near
            picked = []
            for index in range(lines):
                found = [samples.get((name, role, figures.kind, concept, split, index)) for name in names]
                shown = [sample for sample in found if sample is not None]
                if len(shown) == len(names):
                    picked.append(_line(shown, figures.judge, cache))
            if picked:
                heading = title if role == "target" else f"{figures.near}: {title}"
                grids.append(Grid(figures.name, heading, names, picked, bad=role == "target"))
    return grids


def _default_columns(evaluation: Evaluation) -> list[str]:
    names = [row.name for row in evaluation.rows]
    controls = [name for name in ("gold",) if name in names]
    return [*([BASE] if BASE in names else []), *(row.name for row in evaluation.models), *controls]


def _numbered(samples: Sequence[Mapping[str, Any]]) -> list[tuple[Mapping[str, Any], int]]:
    counts: dict[tuple[Any, ...], int] = {}
    numbered = []
    for sample in samples:
        key = tuple(sample[part] for part in ("row", "role", "kind", "concept", "split"))
        numbered.append((sample, counts.get(key, 0)))
        counts[key] = counts.get(key, 0) + 1
    return numbered


def _line(samples: Sequence[Mapping[str, Any]], judge: str | None, cache: SampleStore) -> Line:
    pictures = cache.read([sample["picture"] for sample in samples])
    return Line(
        prompt=samples[0]["prompt"],
        seed=int(samples[0]["seed"]),
        pictures=[
            Picture.of(picture, sample["hits"].get(judge) if judge else None)
            for sample, picture in zip(samples, pictures, strict=True)
        ],
    )
