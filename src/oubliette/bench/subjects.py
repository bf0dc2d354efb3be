"""The model of a cell: erased with the cell's seed and saved, opened, or a control."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from oubliette.bench.cells import Cell, Subject, Target
from oubliette.core.errors import UserError
from oubliette.eval.controls import FILTER, GOLD, RANDOM, filtered, shuffled
from oubliette.world.world import world_of

if TYPE_CHECKING:
    from oubliette.data.concept import Concept
    from oubliette.recipe import Recipe

__all__ = ["check_subjects", "concept_of", "open_subject", "recipe_for", "recipe_of"]

#: A cell and the opened base to the recipe of the cell's method.
Recipes = Callable[[Cell, Any], "Recipe"]


def concept_of(cell: Cell, base: Any) -> Concept:
    """The cell's concept, with kind and anchor filled in from the base's world."""
    from oubliette.data.concepts import make_concepts

    target = cell.target
    return make_concepts(base, [target.name], target.anchor, target.kind)[0]


def recipe_of(cell: Cell, base: Any) -> Recipe:
    """The recipe of a cell whose subject is a method, for the cell's concept."""
    target = cell.target
    return recipe_for(
        cell,
        base,
        concept=target.name,
        anchor=target.anchor,
        kind=target.kind,
        overrides=cell.subject.set,
    )


def recipe_for(cell: Cell, base: Any, **asked: Any) -> Recipe:
    """The recipe of a cell's method with what is `asked` (fields of an `Order`), the subject's preset and the
    cell's seed; saved as a delta, or attached where it is that.
    """
    from oubliette.recipe import read_recipe
    from oubliette.workflows.compose import compose, pick_preset
    from oubliette.workflows.order import Order

    subject = cell.subject
    preset = subject.method if subject.published else pick_preset(base, subject.method)
    form = (read_recipe(preset or "").get("save") or {}).get("form")
    save = "attached" if form == "attached" else "delta"
    return compose(base, Order(preset=preset, seed=cell.seed, save=save, **asked))


@contextmanager
def open_subject(
    cell: Cell,
    base: Any,
    models: Path,
    latents: Path | None = None,
    *,
    recipe: Recipes = recipe_of,
    gold: str | None = None,
) -> Iterator[Any]:
    """The cell's model; one that is erased is saved to `models` and opened from there, as a user would have
    it. `gold` is the world's where it is not named.
    """
    from oubliette.backends import open_model
    from oubliette.erase.run import erase
    from oubliette.eval.surroundings import words_of

    subject = cell.subject
    if subject.method is not None:
        folder = models / cell.key
        if not folder.is_dir():
            result = erase(open_model(base.source), recipe(cell, base), cache=latents, show_progress=False)
            result.save(folder)
        yield open_model(folder)
    elif subject.model is not None:
        yield open_model(subject.model)
    elif subject.control == GOLD:
        gold = gold or world_of(base).gold
        if gold is None:
            raise UserError(f"subject 'gold': no gold model is known for {base.source}; name one (model:)")
        yield open_model(gold)
    elif subject.control == RANDOM:
        model = open_model(base.source)
        with shuffled(model, cell.seed):
            yield model
    elif subject.control == FILTER:
        yield filtered(open_model(base.source), words_of(base, concept_of(cell, base)))
    else:
        yield open_model(base.source)


def check_subjects(
    subjects: Sequence[Subject],
    targets: Sequence[Target],
    base: str,
    where: str,
    recipe: Recipes = recipe_of,
) -> None:
    """UserError where a method or an override is not known or does not fit, before anything is erased."""
    from oubliette.backends import open_model

    opened = open_model(base)
    for subject in subjects:
        if subject.method is not None:
            try:
                recipe(Cell(subject=subject, target=targets[0], seed=0), opened)
            except UserError as error:
                raise UserError(f"{where}: subject '{subject.name}': {error}") from None
