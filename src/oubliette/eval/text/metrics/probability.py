"""TOFU's probability of the right answer, alone and among the wrong ones (Maini et al. 2024, 2401.06121)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar

import numpy as np

from oubliette.data.questions import QA
from oubliette.eval.text.metrics.row_metric import RowMetric
from oubliette.eval.text.subject import Subject

__all__ = ["Probability", "ProbabilityAmongChoices", "mean_log_p"]


def mean_log_p(subject: Subject, rows: Sequence[QA]) -> np.ndarray:
    """The mean log-probability of each row's counted tokens, the end of the text among them: (n,)."""
    return np.array([scores.log_p.mean() for scores in subject.scores(rows)])


class Probability(RowMetric):
    """The geometric mean probability of the answer's tokens, exp(-nll a token).

    TOFU's for the forget and the retain set.
    """

    better = "lower/higher"

    def values(self, subject: Subject, rows: Sequence[QA]) -> np.ndarray:
        """exp of the mean log-probability."""
        return np.exp(mean_log_p(subject, rows))


class ProbabilityAmongChoices(RowMetric):
    """The right answer's probability over that of all answers, each a geometric mean over its tokens.

    TOFU's for real authors and world facts.
    """

    better = "lower/higher"
    needs: ClassVar[tuple[str, ...]] = ("question", "wrong")

    def values(self, subject: Subject, rows: Sequence[QA]) -> np.ndarray:
        """P(answer) / (P(answer) + the sum of P(wrong))."""
        wrong = [replace(row, answer=answer) for row in rows for answer in row.wrong]
        found = iter(mean_log_p(subject, wrong))
        shares = []
        for row, right in zip(rows, mean_log_p(subject, rows), strict=True):
            apart = np.array([next(found) for _ in row.wrong]) - right
            shares.append(1 / (1 + np.exp(np.minimum(apart, 700)).sum()))
        return np.array(shares)

    def chance(self, rows: Sequence[QA]) -> float:
        """One in so many."""
        return float(np.mean([1 / (1 + len(row.wrong)) for row in rows]))
