"""What surrounds a concept in the world its model comes from: what else must be kept, its neighbour, its
words.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from oubliette.core.errors import UserError, suggest
from oubliette.data.concept import Concept
from oubliette.data.prompts import WorldBank


def rest_of_world(base: Any, concepts: Sequence[Concept]) -> list[Concept]:
    """Everything the base's world holds besides the concepts; nothing for a base of no known world.

    The default concepts are left out too: the gold model never saw them, so they would count against it.
    """
    if getattr(base, "world", None) != "picture":
        return []
    from oubliette.world import facts

    gone = {(c.kind, facts.resolve(c.kind, c.name)) for c in concepts}
    gone |= {(kind, name) for name, _, kind in facts.DEFAULT_CONCEPTS}
    return [
        Concept(name=name, anchor=facts.BROADER[kind], kind=kind)
        for kind in facts.TABLES
        for name in facts.names(kind)
        if (kind, name) not in gone
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
    found = {}
    for concept in concepts:
        near = given.get(concept.name) if given is not None else _declared(base, concept)
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
    if getattr(base, "world", None) == "picture":
        return WorldBank().words(concept)
    return list(dict.fromkeys(concept.words))


def _declared(base: Any, concept: Concept) -> str | None:
    if getattr(base, "world", None) != "picture":
        return None
    from oubliette.world import facts

    own = facts.resolve(concept.kind, concept.name)
    return facts.near(concept.kind, own) if own else None
