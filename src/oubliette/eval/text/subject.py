"""A model as metrics of text ask it: each answer scored once, each question answered once."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any

from oubliette.backends.prompting import asked_as
from oubliette.backends.token_scores import TokenScores
from oubliette.data.questions import QA
from oubliette.eval.sampler import CachedSampler
from oubliette.eval.text.decoding import Decoding

__all__ = ["Subject", "chosen_rows"]

Named = list[tuple[str, QA]]


class Subject:
    """One row of an evaluation, with the sets of rows that metrics read, by name ("forget", "retain", ...).

    `rows` has each set's rows with their own names. Answers go through the evaluation's sample store.
    """

    def __init__(self, sampler: CachedSampler, sets: Mapping[str, Sequence[QA]]) -> None:
        self.model: Any = sampler.model
        self.rows: dict[str, Named] = {name: _named(rows) for name, rows in sets.items()}
        self._sampler = sampler
        self._scores: dict[tuple[Any, ...], TokenScores] = {}

    def asked(self) -> AbstractContextManager[None]:
        """A block in which the model is asked as the evaluation asks."""
        return asked_as(self.model, self._sampler.sampling.prompting)

    def scores(self, rows: Sequence[QA]) -> list[TokenScores]:
        """What the model says of each token of the rows' answers."""
        missing = {_key(row): row for row in rows if _key(row) not in self._scores}
        if missing:
            with self.asked():
                self._scores |= zip(missing, self.model.scores(list(missing.values())), strict=True)
        return [self._scores[_key(row)] for row in rows]

    def answers(self, questions: Sequence[str], tokens: int | None = None) -> list[str]:
        """The greedy answers, of at most so many tokens (None: as the evaluation asks), by like lengths."""
        how: Decoding = self._sampler.sampling
        how = how if tokens is None else replace(how, max_new_tokens=tokens)
        order = sorted(range(len(questions)), key=lambda index: (len(questions[index]), index))
        said = self._sampler.cache.draw(
            self.model,
            [questions[index] for index in order],
            [0] * len(order),
            how,
            fingerprint=self._sampler.fingerprint,
        )
        found = dict(zip(order, said, strict=True))
        return [str(found[index].text) for index in range(len(questions))]


def chosen_rows(rows: Sequence[QA], n: int | None, seed: int) -> list[QA]:
    """`n` of the rows (None: all) by the seed and their own words: a larger number extends a smaller one."""

    def rank(row: QA) -> bytes:
        return hashlib.sha256(f"{seed}\0{row.question}\0{row.answer}".encode()).digest()

    return sorted(rows, key=rank)[:n]


def _named(rows: Sequence[QA]) -> Named:
    found: dict[str, QA] = {}
    for row in rows:
        name = row.id or row.where.rpartition(", ")[2] or row.question or row.answer
        first, number = name, 1
        while name in found:
            number += 1
            name = f"{first} ({number})"
        found[name] = row
    return list(found.items())


def _key(row: QA) -> tuple[Any, ...]:
    return row.history, row.question, row.answer
