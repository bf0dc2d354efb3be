"""What of an answer is known by heart, the true words being given up to each token."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from oubliette.data.questions import QA
from oubliette.eval.text.metrics.row_metric import RowMetric
from oubliette.eval.text.subject import Subject

__all__ = ["ExactMemorisation", "ExtractionStrength"]


class ExactMemorisation(RowMetric):
    """The share of the answer's tokens that are the likeliest where they stand.

    Tirumala et al. 2022, 2205.10770. The end of the text does not count.
    """

    better = "lower/higher"

    def values(self, subject: Subject, rows: Sequence[QA]) -> np.ndarray:
        """A share a row."""
        return np.array([scores.answer.right.mean() for scores in subject.scores(rows)], dtype=float)


class ExtractionStrength(RowMetric):
    """1 less the share of the answer that must be given for all the rest to be the likeliest, token by token.

    Carlini et al. 2021, 2012.07805, as in open-unlearning (2506.12618), but 0 where even the last token is
    wrong. The end of the text does not count.
    """

    better = "lower/higher"

    def values(self, subject: Subject, rows: Sequence[QA]) -> np.ndarray:
        """A share a row."""
        found = []
        for scores in subject.scores(rows):
            right = scores.answer.right
            wrong = np.flatnonzero(~right)
            found.append(1 - (int(wrong[-1]) + 1 if len(wrong) else 0) / len(right))
        return np.array(found, dtype=float)
