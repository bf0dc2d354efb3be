"""ROUGE-L between the greedy answer and the right one: TOFU's recall, MUSE's F1."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from oubliette.data.questions import QA
from oubliette.eval.text.metrics.row_metric import RowMetric
from oubliette.eval.text.overlap import Overlap, rouge_l
from oubliette.eval.text.subject import Subject

__all__ = ["RougeF1", "RougeRecall"]


class RougeRecall(RowMetric):
    """ROUGE-L recall of the greedy answer: the share of the right answer's words that it has in their order.

    TOFU's (2401.06121), without its stemmer.
    """

    better = "lower/higher"
    needs: ClassVar[tuple[str, ...]] = ("asked alone",)

    def values(self, subject: Subject, rows: Sequence[QA]) -> np.ndarray:
        """An overlap a row."""
        said = subject.answers([row.question for row in rows])
        return np.array(
            [self.part(rouge_l(row.answer, text)) for row, text in zip(rows, said, strict=True)], dtype=float
        )

    def part(self, overlap: Overlap) -> float:
        """What counts of the overlap."""
        return overlap.recall


class RougeF1(RougeRecall):
    """ROUGE-L F1 of the greedy answer."""

    def part(self, overlap: Overlap) -> float:
        """The harmonic mean of recall and precision."""
        return overlap.f1
