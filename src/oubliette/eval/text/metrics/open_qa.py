"""Open questions: whether the answer that is given entails the right one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from oubliette.data.questions import QA
from oubliette.eval.metric import Items
from oubliette.eval.text.entailment import NLIJudge, StringJudge, open_nli
from oubliette.eval.text.metrics.row_metric import RowMetric
from oubliette.eval.text.subject import Subject

__all__ = ["OpenQA"]


class OpenQA(RowMetric):
    """Share of questions whose greedy answer entails a right one, by a rule or by a model (`open_qa:FOLDER`).

    With a model (any sequence classifier of transformers for natural language inference) the figure says how
    often the rule on strings agrees with it.
    """

    better = "lower/higher"
    needs: ClassVar[tuple[str, ...]] = ("asked alone",)

    def __init__(self, judge: NLIJudge | None = None) -> None:
        self.judge: NLIJudge = judge or StringJudge()

    @classmethod
    def open(cls, argument: str | None) -> OpenQA:
        """With the judge in a folder."""
        return cls(open_nli(argument))

    def values(self, subject: Subject, rows: Sequence[QA]) -> np.ndarray:
        """Whether each answer entails a right one."""
        return self.judge.entails(self._cases(subject, rows))

    def items(self, subject: Subject, names: tuple[str, ...], rows: Sequence[QA]) -> Items:
        """With the agreement of the rule on strings."""
        found = self.values(subject, rows)
        note = ""
        if not isinstance(self.judge, StringJudge):
            agreed = found == StringJudge().entails(self._cases(subject, rows))
            note = f"the rule on strings agrees with {self.judge.name} on {agreed.sum()} of {len(agreed)}"
        return Items(names, found, note=note)

    def _cases(self, subject: Subject, rows: Sequence[QA]) -> list[tuple[str, str, tuple[str, ...]]]:
        said = subject.answers([row.question for row in rows])
        return [
            (row.question, text, (row.answer, *row.alternatives))
            for row, text in zip(rows, said, strict=True)
        ]
