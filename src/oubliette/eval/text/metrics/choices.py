"""Multiple choice: by the likelihood of the choices, as they are or by their length, and by letter."""

from __future__ import annotations

import hashlib
import string
from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar

import numpy as np

from oubliette.data.questions import QA
from oubliette.eval.text.metrics.row_metric import RowMetric
from oubliette.eval.text.subject import Subject

__all__ = ["Choices", "ChoicesByLength", "ChoicesByLetter", "options_of"]


def options_of(row: QA) -> tuple[tuple[str, ...], int]:
    """The answers to choose from and the number of the right one.

    These are the row's choices, or else its wrong answers and the right one worded like them, at a place
    that depends on the question alone.
    """
    if row.answer_index is not None:
        return row.choices, row.answer_index
    right = row.alternatives[0] if row.alternatives else row.answer
    digest = hashlib.sha256(row.question.encode()).digest()
    place = int.from_bytes(digest[:4], "big") % (len(row.perturbed) + 1)
    return (*row.perturbed[:place], right, *row.perturbed[place:]), place


class Choices(RowMetric):
    """Share of questions whose right choice is the likeliest answer: log-probability summed over its tokens.

    lm-evaluation-harness's `acc`; a tie is no hit. The end of the text is not part of a choice.
    """

    better = "lower/higher"
    needs: ClassVar[tuple[str, ...]] = ("question", "choices")

    def values(self, subject: Subject, rows: Sequence[QA]) -> np.ndarray:
        """Whether the right choice is above every other."""
        cases = [options_of(row) for row in rows]
        asked = [
            self.case(row, options, i)
            for row, (options, _) in zip(rows, cases, strict=True)
            for i in range(len(options))
        ]
        found = iter(subject.scores(asked))
        hits = []
        for options, right in cases:
            scores = [self.score(float(next(found).answer.log_p.sum()), option) for option in options]
            hits.append(all(scores[right] > score for i, score in enumerate(scores) if i != right))
        return np.array(hits, dtype=bool)

    def case(self, row: QA, options: Sequence[str], index: int) -> QA:
        """The row with one of the options as its answer."""
        return replace(row, answer=options[index])

    def score(self, log_p: float, option: str) -> float:
        """What the options are compared by."""
        return log_p

    def chance(self, rows: Sequence[QA]) -> float:
        """One in so many."""
        return float(np.mean([1 / len(options_of(row)[0]) for row in rows]))


class ChoicesByLength(Choices):
    """Share of questions whose right choice is the likeliest for its length in characters.

    lm-evaluation-harness's `acc_norm`.
    """

    def score(self, log_p: float, option: str) -> float:
        """The log-probability a character."""
        return log_p / len(option)


class ChoicesByLetter(Choices):
    """Share of questions to which the letter of the right choice is the likeliest answer.

    The choices stand below the question, "A. ..." a line, and "Answer:" below them (MMLU, 2009.03300).
    """

    def case(self, row: QA, options: Sequence[str], index: int) -> QA:
        """The question with its lettered choices, and a letter as the answer."""
        letters = string.ascii_uppercase
        lines = [f"{letters[i]}. {option}" for i, option in enumerate(options)]
        return replace(row, question="\n".join([row.question, *lines, "Answer:"]), answer=letters[index])
