"""A judge of answers: whether what a model says holds what the row's answer says."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from oubliette.data.concept import Concept
from oubliette.eval.text.overlap import longest_common

__all__ = ["ARTICLES", "AnswerJudge", "holds"]

#: Up to so many words an answer must be said as it stands; of a longer one, this share of its words in order.
_SHORT, _SHARE = 6, 0.7
ARTICLES = frozenset({"a", "an", "the"})

Expected = Mapping[str, Sequence[str]]
"""Right answers by question."""


class AnswerJudge:
    """Finds a concept in an answer that holds one of the right answers to its question.

    `expected` has the right answers by question, for each concept (a set of rows). An answer of up to six
    words must occur in what was said, word for word (case, punctuation and articles aside); of a longer one,
    70 % of the words must occur in their order (ROUGE-L recall, Lin 2004).
    """

    name: str = "answers"
    threshold: float | None = None

    def __init__(self, expected: Mapping[Concept, Expected]) -> None:
        self._expected = {concept: dict(rows) for concept, rows in expected.items()}
        facts = [[concept.kind, concept.name, rows] for concept, rows in self._expected.items()]
        text = json.dumps([_SHORT, _SHARE, facts], ensure_ascii=False, default=list)
        self.fingerprint = hashlib.sha256(text.encode()).hexdigest()

    def covers(self, concept: Concept) -> bool:
        """Whether the concept is one of the sets of rows."""
        return concept in self._expected

    def knows(self, concept: Concept, question: str) -> bool:
        """Whether an answer to the question can be right."""
        return question in self._expected.get(concept, {})

    def of(self, expected: Mapping[Concept, Expected]) -> AnswerJudge:
        """The same judge of other questions."""
        return AnswerJudge(expected)

    def hits(self, samples: np.ndarray, concept: Concept) -> np.ndarray:
        """Boolean (n,) for `Answer`s (n,)."""
        rows = self._expected[concept]
        return np.array([holds(one.text, rows.get(one.question, ())) for one in samples], dtype=bool)


def holds(said: str, right: Iterable[str]) -> bool:
    """Whether a text says one of the right answers."""
    words = _words(said)
    return any(_within(_words(answer), words) for answer in right)


def _words(text: str) -> list[str]:
    return [word for word in re.findall(r"\w+", text.casefold()) if word not in ARTICLES]


def _within(answer: list[str], said: list[str]) -> bool:
    if not answer:
        return False
    if len(answer) <= _SHORT:
        count = len(answer)
        return any(said[start : start + count] == answer for start in range(len(said) - count + 1))
    return longest_common(answer, said) >= _SHARE * len(answer)
