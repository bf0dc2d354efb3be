"""The model of a cell: erased with the cell's seed and saved, opened, or a control."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from oubliette.bench.cells import Cell
from oubliette.eval.controls import FILTER, GOLD, RANDOM, filtered, shuffled

if TYPE_CHECKING:
    from oubliette.data.concept import Concept
    from oubliette.recipe import Recipe

__all__ = ["concept_of", "open_subject", "recipe_of"]


def concept_of(cell: Cell, base: Any) -> Concept:
    """The cell's concept, with kind and anchor filled in from the base's world."""
    from oubliette.workflows.compose import make_concepts

    target = cell.target
    return make_concepts(base, [target.name], target.anchor, target.kind)[0]


def recipe_of(cell: Cell, base: Any) -> Recipe:
    """The recipe of a cell whose subject is a method; saved as a delta, or attached where it is that."""
    from oubliette.recipe import read_recipe
    from oubliette.workflows.compose import compose, pick_preset

    target, subject = cell.target, cell.subject
    preset = subject.method if subject.published else pick_preset(base, subject.method)
    form = (read_recipe(preset or "").get("save") or {}).get("form")
    return compose(
        base,
        concept=target.name,
        anchor=target.anchor,
        kind=target.kind,
        preset=preset,
        seed=cell.seed,
        save="attached" if form == "attached" else "delta",
        overrides=subject.set,
    )


@contextmanager
def open_subject(cell: Cell, base: Any, models: Path, latents: Path) -> Iterator[Any]:
    """The cell's model; one that is erased is saved to `models` and opened from there, as a user would have
    it.
    """
    from oubliette.api import load
    from oubliette.erase.run import erase
    from oubliette.eval.surroundings import words_of

    subject = cell.subject
    if subject.method is not None:
        folder = models / cell.key
        if not folder.is_dir():
            result = erase(load(base.source), recipe_of(cell, base), cache=latents, show_progress=False)
            result.save(folder)
        yield load(folder)
    elif subject.model is not None:
        yield load(subject.model)
    elif subject.control == GOLD:
        yield load("nano-gold")
    elif subject.control == RANDOM:
        model = load(base.source)
        with shuffled(model, cell.seed):
            yield model
    elif subject.control == FILTER:
        yield filtered(load(base.source), words_of(base, concept_of(cell, base)))
    else:
        yield load(base.source)
