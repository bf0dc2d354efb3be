"""What is to be forgotten, and the broader concept it is mapped to."""

from __future__ import annotations

from dataclasses import dataclass

from oubliette.errors import UserError, suggest

KINDS = ("object", "style", "person")


@dataclass(frozen=True)
class Concept:
    """A concept: its name, the anchor that takes its place, its kind, and other words for it.

    Surrounding blanks are dropped. Raises UserError for an empty name, an unknown kind, an anchor that is the
    concept itself or one of its synonyms. An empty anchor is allowed and means the empty prompt.
    """

    name: str
    anchor: str
    kind: str = "object"
    synonyms: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        name, anchor = " ".join(self.name.split()), " ".join(self.anchor.split())
        if isinstance(self.synonyms, str):
            raise UserError(f"concept {name!r}: synonyms must be a list, found the text {self.synonyms!r}")
        others: dict[str, str] = {}
        for word in (" ".join(word.split()) for word in self.synonyms):
            if word and word.casefold() != name.casefold():
                others.setdefault(word.casefold(), word)
        for field, value in (("name", name), ("anchor", anchor), ("synonyms", tuple(others.values()))):
            object.__setattr__(self, field, value)
        if not name:
            raise UserError("the concept is empty; give the word to be erased, such as 'car'")
        if self.kind not in KINDS:
            raise UserError(f"concept {name!r}: no kind {self.kind!r}; {suggest(self.kind, KINDS)}")
        if anchor.casefold() in {name.casefold(), *others}:
            raise UserError(
                f"concept {name!r}: the anchor {anchor!r} is the concept itself; give a broader word"
            )

    @property
    def words(self) -> tuple[str, ...]:
        """The name and its synonyms."""
        return (self.name, *self.synonyms)
