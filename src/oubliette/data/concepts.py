"""Concepts as a user names them, or as the record of a saved model does."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from oubliette.core.errors import UserError
from oubliette.core.manifest import read_manifest
from oubliette.data.concept import Concept, hint
from oubliette.world.world import world_of

if TYPE_CHECKING:
    from oubliette.backends.base import Backend

__all__ = ["concepts_of", "make_concepts"]


def make_concepts(
    model: Backend,
    concept: str | Sequence[str],
    anchor: str | Sequence[str] | None = None,
    kind: str | Sequence[str] | None = None,
) -> list[Concept]:
    """The concepts asked for, with kinds and anchors filled in from the model's world where it has one.

    Warns (InputWarning) of names that are probably not meant as they stand. Raises UserError for an empty
    concept, an anchor that is the concept, and a count that does not match.
    """
    known = world_of(model)
    names = [concept] if isinstance(concept, str) else list(concept)
    anchors = _one_each(anchor, len(names), "anchor")
    kinds = _one_each(kind, len(names), "kind")
    made = []
    for name, given, asked in zip(names, anchors, kinds, strict=True):
        hint([Concept(name, given or "", asked or "object")])
        found = asked or known.kind_of(" ".join(name.split()))
        made.append(Concept(name, known.anchor(found) if given is None else given, found))
    return made


def concepts_of(
    model: Backend,
    concept: str | Sequence[str] | Sequence[Concept] | None = None,
    anchor: str | Sequence[str] | None = None,
    kind: str | Sequence[str] | None = None,
    *,
    world: Backend | None = None,
) -> list[Concept]:
    """The concepts as given, or those that the model's record says were erased; UserError where none is."""
    given = [concept] if isinstance(concept, str) else list(concept or ())
    if given:
        whole = [item for item in given if isinstance(item, Concept)]
        if whole:
            return whole
        return make_concepts(world or model, [str(item) for item in given], anchor, kind)
    source = Path(model.source)
    recipe = read_manifest(source).get("recipe", {}) if source.is_dir() else {}
    found = [
        Concept(item["name"], item["anchor"], item["kind"], tuple(item.get("synonyms", ())))
        for item in recipe.get("concepts", ())
    ]
    if not found:
        raise UserError(f"{model.source}: has no record of what was erased; name it (concept, --concept)")
    return found


def _one_each(given: str | Sequence[str] | None, count: int, what: str) -> list[str | None]:
    values: list[str | None] = [given] if given is None or isinstance(given, str) else [*given]
    if len(values) <= 1:
        return (values or [None]) * count
    if len(values) != count:
        raise UserError(f"{len(values)} {what}s for {count} concepts; give one for all, or one for each")
    return values
