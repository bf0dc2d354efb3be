"""What is to be forgotten, and the broader concept it is mapped to."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from dataclasses import dataclass

from oubliette.core.errors import UserError, suggest
from oubliette.data.text import InputWarning, check_text
from oubliette.data.words import pattern
from oubliette.world.world import every_world

#: The kinds that a model of any world may be asked for; a world may have others (`kinds`).
KINDS = ("object", "style", "person")
#: What a set of questions and answers is about, where that takes the place of a concept.
FACTS, OTHER_FACTS = "fact", "other fact"
_ANSWERED = (FACTS, OTHER_FACTS)


@dataclass(frozen=True)
class Concept:
    """A concept: its name, the anchor that takes its place, its kind, and other words for it.

    Surrounding blanks are dropped. Raises UserError for an empty name, an unknown kind, a control character,
    an anchor that is the concept itself or one of its synonyms. An empty anchor means the empty prompt.
    """

    name: str
    anchor: str
    kind: str = "object"
    synonyms: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_text(self.name, "the concept")
        check_text(self.anchor, f"concept {self.name!r}: the anchor")
        name, anchor = " ".join(self.name.split()), " ".join(self.anchor.split())
        if isinstance(self.synonyms, str):
            raise UserError(f"concept {name!r}: synonyms must be a list, found the text {self.synonyms!r}")
        for word in self.synonyms:
            check_text(word, f"concept {name!r}: the synonym")
        others: dict[str, str] = {}
        for word in (" ".join(word.split()) for word in self.synonyms):
            if word and word.casefold() != name.casefold():
                others.setdefault(word.casefold(), word)
        for field, value in (("name", name), ("anchor", anchor), ("synonyms", tuple(others.values()))):
            object.__setattr__(self, field, value)
        if not name:
            raise UserError("the concept is empty; give the word to be erased, such as 'car'")
        if self.kind not in (*KINDS, *_ANSWERED) and self.kind not in kinds():
            raise UserError(f"concept {name!r}: no kind {self.kind!r}; {suggest(self.kind, kinds())}")
        if anchor.casefold() in {name.casefold(), *others}:
            raise UserError(
                f"concept {name!r}: the anchor {anchor!r} is the concept itself; give a broader word"
            )

    @property
    def words(self) -> tuple[str, ...]:
        """The name and its synonyms."""
        return (self.name, *self.synonyms)


def kinds() -> list[str]:
    """What kinds of concepts there are: those of any model, and those that some world has."""
    return list(dict.fromkeys([*KINDS, *(kind for world in every_world() for kind in world.tables)]))


def hint(concepts: Iterable[Concept]) -> None:
    """Warn (InputWarning) of names that are probably not meant as they stand: several in one, or an anchor
    that names the concept.
    """
    for concept in concepts:
        for sign in ";,":
            parts = [part.strip() for part in concept.name.split(sign)]
            if len(parts) > 1 and all(parts):
                several = " ".join(f"--concept {part!r}" for part in parts)
                warnings.warn(
                    f"concept {concept.name!r} is taken as one; several are given as {several}",
                    InputWarning,
                    stacklevel=1,
                )
                break
        if pattern(concept.words).search(concept.anchor):
            warnings.warn(
                f"concept {concept.name!r}: its anchor {concept.anchor!r} names it, so that erasing onto it "
                "keeps what is to go; a broader word is better",
                InputWarning,
                stacklevel=1,
            )


def samples_of(kind: str) -> str:
    """What is looked at where something of this kind was forgotten: "pictures", or "answers"."""
    return "answers" if kind in _ANSWERED else "pictures"
