"""MUSE's memorisation of texts and of facts (Shi et al. 2024, 2407.06460)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar

import numpy as np

from oubliette.data.questions import QA
from oubliette.eval.text.metrics.row_metric import SHOTS, RowMetric
from oubliette.eval.text.overlap import rouge_l
from oubliette.eval.text.subject import Subject

__all__ = ["KnowMem", "VerbMem"]

#: Tokens of a continuation, and of an answer.
_CONTINUED, _ANSWERED = 128, 32
_NEXT = re.compile(r"\n\s*\n|\n\s*Question\b")


class VerbMem(RowMetric):
    """ROUGE-L F1 of the greedy continuation, of at most 128 tokens, and the true one, as long.

    Of a row with a question the answer is what follows (`prompt` and `gt` in MUSE's files); plain text is
    parted in the middle of its words.
    """

    better = "lower/higher"
    needs: ClassVar[tuple[str, ...]] = ("continued",)

    def values(self, subject: Subject, rows: Sequence[QA]) -> np.ndarray:
        """An F1 a row."""
        pairs = [(row.question, row.answer) if not row.plain else _halves(row.answer) for row in rows]
        said = subject.answers([prompt for prompt, _ in pairs], _CONTINUED)
        return np.array(
            [
                rouge_l(subject.model.reader.shortened(true, _CONTINUED), text).f1
                for (_, true), text in zip(pairs, said, strict=True)
            ],
            dtype=float,
        )


class KnowMem(RowMetric):
    """ROUGE-L F1 of the greedy answer, of at most 32 tokens up to a blank line or the next question.

    Rows of a set called "shots" (`--rows shots=FILE`) stand before each question as examples.
    """

    better = "lower/higher"
    needs: ClassVar[tuple[str, ...]] = ("asked alone",)

    def values(self, subject: Subject, rows: Sequence[QA]) -> np.ndarray:
        """An F1 a row."""
        shots = [row for _, row in subject.rows.get(SHOTS, ())]
        said = subject.answers([with_shots(row, shots).question for row in rows], _ANSWERED)
        return np.array(
            [
                rouge_l(row.answer, _NEXT.split(text.strip(), maxsplit=1)[0]).f1
                for row, text in zip(rows, said, strict=True)
            ],
            dtype=float,
        )


def with_shots(row: QA, shots: Sequence[QA]) -> QA:
    """The row with questions and answers before its own question, a blank line apart."""
    if not shots:
        return row
    before = "".join(f"Question: {shot.question}\nAnswer: {shot.answer}\n\n" for shot in shots)
    return replace(row, question=f"{before}Question: {row.question}\nAnswer:")


def _halves(text: str) -> tuple[str, str]:
    spans = [found.start() for found in re.finditer(r"\S+", text)]
    place = spans[(len(spans) + 1) // 2]
    return text[:place].rstrip(), text[place:]
