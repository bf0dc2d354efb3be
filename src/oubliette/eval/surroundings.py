"""What surrounds a concept in the world its model comes from: what else must be kept, its neighbour, its
words.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from oubliette.core.errors import UserError, suggest
from oubliette.data.concept import Concept
from oubliette.data.prompts import open_words
from oubliette.world.world import world_of


def rest_of_world(base: Any, concepts: Sequence[Concept]) -> list[Concept]:
    """Everything the base's world holds besides the concepts; nothing for a base of no known world.

    The default concepts are left out too: the gold model never saw them, so they would count against it.
    """
    world = world_of(base)
    gone = {(c.kind, world.resolve(c.kind, c.name)) for c in concepts}
    return [
        Concept(name=name, anchor=world.anchor(kind), kind=kind)
        for kind in world.tables
        for name in world.names(kind)
        if (kind, name) not in gone and not world.is_unseen(kind, name)
    ]


def neighbours(
    base: Any,
    concepts: Sequence[Concept],
    retained: Sequence[Concept],
    given: Mapping[str, str] | None = None,
) -> dict[Concept, str]:
    """The near neighbour of each concept, as given or as its world declares it, if it is among the retained.

    Raises UserError for a given neighbour that is not retained.
    """
    kept = {(other.kind, other.name) for other in retained}
    world, found = world_of(base), {}
    for concept in concepts:
        declared = world.fact(concept.kind, concept.name).near
        near = declared if given is None else given.get(concept.name)
        if near is not None and (concept.kind, near) in kept:
            found[concept] = near
        elif near is not None and given is not None:
            options = [other.name for other in retained if other.kind == concept.kind]
            raise UserError(
                f"the neighbour {near!r} of {concept.name!r} is not retained; {suggest(near, options)}"
            )
    return found


def words_of(base: Any, concept: Concept) -> list[str]:
    """The words for a concept that an eraser or a filter may know: its name, its synonyms, the world's open
    words.
    """
    return open_words(world_of(base), concept)
