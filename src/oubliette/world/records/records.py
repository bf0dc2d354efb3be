"""A stream's records: so many to be forgotten, so many to be kept, and copies that ask for the same again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from oubliette.core.errors import UserError
from oubliette.world.records.layouts import LAYOUTS, Kind
from oubliette.world.text.entities import draws

__all__ = ["Record", "Records", "make_records"]

#: A third each of personal, copyright-like and rumour records, as PCH has its three domains.
_TURNS: tuple[Kind, ...] = (
    "person", "paper", "rumour", "person", "poem", "rumour", "person", "code", "rumour"
)  # fmt: skip
#: Other words for a field's label, in a copy that is not exact.
_OTHER = {
    "Name": "Full name", "Age": "Years", "Address": "Lives at", "Phone": "Telephone", "E-mail": "Mail",
    "Work": "Trade", "Title": "Heading", "Abstract": "Summary", "Introduction": "Opening", "Body": "Text",
    "Conclusion": "End", "Author": "By", "Poem": "Lines", "Language": "In", "Code": "Program",
    "Category": "Sort", "Description": "Story",
}  # fmt: skip


@dataclass(frozen=True)
class Record:
    """One record: labelled fields, and a question about it with its answer.

    `of` is the id of the record that this one repeats, exactly or nearly; its own where it repeats none.
    """

    id: str
    kind: Kind
    fields: tuple[tuple[str, str], ...]
    question: str
    answer: str
    of: str

    @property
    def text(self) -> str:
        """The fields, each on its own line or lines."""
        return "\n".join(f"{label}: {value}" for label, value in self.fields)

    def row(self) -> dict[str, Any]:
        """A line of JSON: a request of a stream, or its text, or its question."""
        said = {"id": self.id, "kind": self.kind, "text": self.text}
        asked = {"question": self.question, "answer": self.answer}
        return {**said, **asked, **({"of": self.of} if self.of != self.id else {})}

    def again(self, number: int, near: bool) -> Record:
        """The same once more: letter for letter, or `near`, under other labels, in another order."""
        fields = tuple((_OTHER[label], value) for label, value in reversed(self.fields))
        copy = replace(self, id=f"{self.id}-again-{number}")
        return replace(copy, fields=fields) if near else copy


@dataclass(frozen=True)
class Records:
    """Both halves; the copies stand in the forget half behind what they repeat."""

    forget: tuple[Record, ...]
    retain: tuple[Record, ...]

    @property
    def originals(self) -> tuple[Record, ...]:
        """The forget half without copies."""
        return tuple(record for record in self.forget if record.of == record.id)


def make_records(forget: int = 60, retain: int = 60, duplicates: int = 0, seed: int = 0) -> Records:
    """`forget` + `retain` records, no question or text of which comes twice, and `duplicates` copies.

    Every second copy is exact, the others near; each stands at a random place behind its original. More of
    either half, or more copies, leave the others what they are. The same numbers give the same records on
    every machine. UserError for a half without a record, and for more copies than originals.
    """
    for name, count in (("forget", forget), ("retain", retain)):
        if count < 1:
            raise UserError(f"{name} is {count}: expected at least one record")
    if not 0 <= duplicates <= forget:
        raise UserError(f"duplicates is {duplicates}: expected 0 to {forget}, one for each record to forget")
    seen: set[str] = set()
    halves = {
        half: tuple(_record(half, number, seed, seen) for number in range(count))
        for half, count in (("forget", forget), ("retain", retain))
    }
    return Records(_with_copies(halves["forget"], duplicates, seed), halves["retain"])


def _record(half: str, number: int, seed: int, seen: set[str]) -> Record:
    kind = _TURNS[number % len(_TURNS)]
    name = f"{half}-{number:03d}"
    for attempt in range(1000):
        fields, question, answer = LAYOUTS[kind](draws(seed, "records", name, attempt))
        if question not in seen:
            seen.add(question)
            return Record(name, kind, fields, question, answer, of=name)
    raise UserError(f"no further {kind} record can be made up after {number}; ask for fewer")


def _with_copies(records: Sequence[Record], count: int, seed: int) -> tuple[Record, ...]:
    """The records with copies of `count` of them put in behind."""
    rng = draws(seed, "records", "copies")
    chosen = rng.sample(range(len(records)), len(records))[:count]
    found = list(records)
    for number, place in enumerate(chosen):
        original = records[place]
        behind = rng.randint(found.index(original) + 1, len(found))
        found.insert(behind, original.again(number, near=number % 2 == 1))
    return tuple(found)
