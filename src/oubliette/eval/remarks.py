"""What must be said of an evaluation beside its figures: where a floor, an anchor or gold limits them."""

from __future__ import annotations

from collections.abc import Sequence

from oubliette.core.numbers import percent
from oubliette.data.wording import wording_of
from oubliette.eval.controls import GOLD
from oubliette.eval.leakage import ON_ANCHOR, Leakage
from oubliette.eval.result import ConceptFigures, Row
from oubliette.eval.verdict import Bounds, describe_share

__all__ = ["remarks"]


def remarks(rows: Sequence[Row], bounds: Bounds) -> list[str]:
    """A line for each concept whose floor is the anchor's rate, whose anchor shows it, or that gold shows.

    By the deciding judge alone.
    """
    found = []
    for figures in rows[0].concepts if rows else []:
        own = [figure for figure in figures.leakage if figure.judge == figures.judge]
        found += [*_poor_floor(figures, own), *_anchor_shows(figures, own, bounds)]
    for row in rows:
        if row.role == "control" and row.name == GOLD:
            found += [line for figures in row.concepts for line in _gold_shows(figures, bounds)]
    return found


def _poor_floor(figures: ConceptFigures, own: Sequence[Leakage]) -> list[str]:
    if not any(figure.ground == ON_ANCHOR for figure in own):
        return []
    return [
        f"{figures.name}: the floor is the judge's rate on the anchor's prompts; name other {figures.kind}s "
        "that must be kept (`retained` in Python) to have a better one"
    ]


def _anchor_shows(figures: ConceptFigures, own: Sequence[Leakage], bounds: Bounds) -> list[str]:
    figure = next((figure for figure in own if figure.anchor_shows(bounds.leakage)), None)
    if figure is None:
        return []
    shown = figure.floor if figure.anchor is None else figure.anchor
    return [
        f"{figures.name}: the judge finds it in {percent(shown.value)} of the base's pictures of its anchor "
        f"'{figures.anchor}': erasing onto it leaves the concept in the model"
    ]


def _gold_shows(figures: ConceptFigures, bounds: Bounds) -> list[str]:
    words = wording_of(figures.kind)
    return [
        f"{figures.name}: gold's leakage {figure.split} is {describe_share(figure.leakage, words)}: a model "
        f"that never knew it {words.shows} this much"
        for figure in figures.leakage
        if figure.judge == figures.judge
        and figure.leakage is not None
        and figure.leakage.value > bounds.leakage
    ]
