"""A metric with a value a row: which rows and sets it reads, and how rows become a figure."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from oubliette.core.errors import UserError
from oubliette.data.questions import QA
from oubliette.eval.metric import Figure, Items, Metric, Seen, interval_of
from oubliette.eval.text.subject import Subject

__all__ = ["APART", "FORGET", "HOLDOUT", "NEEDS", "SHOTS", "RowMetric"]

FORGET, HOLDOUT, SHOTS = "forget", "holdout", "shots"
#: Sets that are no part of what must be kept.
APART = (FORGET, HOLDOUT, SHOTS)

NEEDS: dict[str, tuple[Callable[[QA], bool], str]] = {
    "question": (lambda row: not row.plain, "a question"),
    "asked alone": (lambda row: not row.plain and not row.history, "a question that is asked on its own"),
    "choices": (lambda row: bool(row.wrong), "choices, or wrong answers (perturbed_answers)"),
    "wrong": (lambda row: bool(row.wrong), "wrong answers (perturbed_answers), or choices"),
    "continued": (
        lambda row: not row.history and (not row.plain or len(row.answer.split()) > 1),
        "a text to be continued",
    ),
}
"""What a row may have to have, and what that is called."""

_MISSING = {
    FORGET: "rows to forget (--forget)",
    "retain": "rows that must be kept (--retain)",
    HOLDOUT: "rows like those to forget that no model was trained on (--rows holdout=FILE)",
}


class RowMetric(Metric):
    """A metric that has a value for each row that has what it `needs` (names of `NEEDS`).

    `sets` are those that it reads and cannot do without; where that is empty, it reads the forget set, which
    it cannot do without, and all that must be kept.
    """

    needs: ClassVar[tuple[str, ...]] = ()
    sets: ClassVar[tuple[str, ...]] = ()

    def check(self, sets: Mapping[str, Sequence[QA]]) -> list[str]:
        """UserError where a set is missing or has no row that will do; a line for each other set left out."""
        left_out = []
        for name in dict.fromkeys([*(self.sets or (FORGET,)), *self.read(sets)]):
            if not sets.get(name):
                raise UserError(f"metric '{self.name}': needs {_MISSING.get(name, f'a set {name!r}')}")
            if any(self.fits(row) for row in sets[name]):
                continue
            lacking = next(key for key in self.needs if not any(NEEDS[key][0](row) for row in sets[name]))
            said = (
                f"metric '{self.name}': none of the {len(sets[name])} rows of {name} has {NEEDS[lacking][1]}"
            )
            if name == FORGET or name in self.sets:
                raise UserError(said)
            left_out.append(f"{said}; it is left out there")
        return left_out

    def read(self, sets: Mapping[str, Any]) -> list[str]:
        """The names of the sets that are read, of those there are."""
        return [
            name for name in sets if (name in self.sets if self.sets else name == FORGET or name not in APART)
        ]

    def fits(self, row: QA) -> bool:
        """Whether the row has all that is needed."""
        return all(NEEDS[key][0](row) for key in self.needs)

    @abstractmethod
    def values(self, subject: Subject, rows: Sequence[QA]) -> np.ndarray:
        """A value a row: booleans or floats (n,)."""

    def chance(self, rows: Sequence[QA]) -> float | None:
        """What a model that knows nothing would reach."""
        return None

    def items(self, subject: Subject, names: tuple[str, ...], rows: Sequence[QA]) -> Items:
        """The values of some rows of a set."""
        return Items(names, self.values(subject, rows), self.chance(rows))

    def observe(self, subject: Subject) -> dict[str, Items]:
        """The values of all rows that will do, by set."""
        found = {}
        for name in self.read(subject.rows):
            pairs = [(key, row) for key, row in subject.rows[name] if self.fits(row)]
            if pairs:
                found[name] = self.items(subject, tuple(key for key, _ in pairs), [row for _, row in pairs])
        return found

    def aggregate(self, name: str) -> Callable[..., Any]:
        """What makes a set's figure of its values, with `axis`: the mean."""
        return np.mean

    def figures(self, row: str, seen: Seen) -> list[Figure]:
        """A figure a set."""
        return [
            self.figure(row, name, items, *interval_of(items.values, self.aggregate(name)))
            for name, items in seen.own.items()
        ]
