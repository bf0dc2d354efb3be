"""What the wording of a fact costs a model beside what its key words cost."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np

from oubliette.data.questions import QA
from oubliette.eval.text.metrics.probability import mean_log_p
from oubliette.eval.text.metrics.row_metric import RowMetric
from oubliette.eval.text.subject import Subject

__all__ = ["TemplateRatio"]

#: A loss below this is taken for it: what is known by heart has no loss to divide by.
_LEAST = 1e-4


class TemplateRatio(RowMetric):
    """nll a token of the question as a text over that of the answer to it: the geometric mean over rows.

    Low where the wording is familiar and the key words are not, as after an erasure that pushed answers
    alone (after 2602.03379, which splits sentences into template and key words; question and answer are
    ours).
    """

    better = "lower/higher"
    needs: ClassVar[tuple[str, ...]] = ("question",)

    def values(self, subject: Subject, rows: Sequence[QA]) -> np.ndarray:
        """A ratio a row."""
        wording = -mean_log_p(subject, [replace(row, question="", answer=row.question) for row in rows])
        words = -mean_log_p(subject, rows)
        return np.maximum(wording, _LEAST) / np.maximum(words, _LEAST)

    def aggregate(self, name: str) -> Callable[..., Any]:
        """The geometric mean."""
        return lambda values, axis: np.exp(np.log(values).mean(axis=axis))
