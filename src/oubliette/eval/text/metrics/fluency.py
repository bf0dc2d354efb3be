"""Gibberish told from answers: perplexity, repetition, and the share of answers that are fluent."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np

from oubliette.data.questions import QA
from oubliette.data.refusals import shipped_refusals
from oubliette.eval.metric import Figure, Items, Seen, interval_of
from oubliette.eval.statistics import Rate, ratio_above_floor
from oubliette.eval.text.answer_judge import holds
from oubliette.eval.text.metrics.probability import mean_log_p
from oubliette.eval.text.metrics.row_metric import APART, RowMetric
from oubliette.eval.text.overlap import repetition
from oubliette.eval.text.subject import Subject
from oubliette.eval.utility import Kept

__all__ = ["Fluency", "Perplexity", "Repetition"]

#: As unlikely as this share of right answers to other questions, an answer is gibberish.
_RARE = 0.05
#: More of its runs of three words than this share said before, and an answer is babble.
_BABBLE = 0.5


class Perplexity(RowMetric):
    """exp of the nll a token of the answer, or of the text: the geometric mean over rows."""

    better = "higher/lower"

    def values(self, subject: Subject, rows: Sequence[QA]) -> np.ndarray:
        """A perplexity a row."""
        return np.exp(-mean_log_p(subject, rows))

    def aggregate(self, name: str) -> Callable[..., Any]:
        """The geometric mean: a row that became impossible does not hide the others."""
        return lambda values, axis: np.exp(np.log(values).mean(axis=axis))


class Repetition(RowMetric):
    """The share of the greedy answer's runs of three words that were there before (seq-rep-3).

    Welleck et al. 2020, 1908.04319.
    """

    better = "lower"
    needs: ClassVar[tuple[str, ...]] = ("asked alone",)

    def values(self, subject: Subject, rows: Sequence[QA]) -> np.ndarray:
        """A share a row."""
        said = subject.answers([row.question for row in rows])
        return np.array([repetition(text) for text in said], dtype=float)


class Fluency(RowMetric):
    """The share of greedy answers that are fluent: right ones, refusals, those that the base finds likely.

    An answer is fluent where it holds a right one or a refusal; or else where the base finds it no less
    likely a token than 95 % of right answers to *other* questions of what must be kept (fluent, and out of
    place), and at most half of its runs of three words were there before. No answer is none.
    """

    better = "higher"
    needs: ClassVar[tuple[str, ...]] = ("asked alone",)

    def values(self, subject: Subject, rows: Sequence[QA]) -> np.ndarray:
        """Each row and what was said to it: (n, 2), objects. The base is asked about it at the end."""
        said = subject.answers([row.question for row in rows])
        found = np.empty((len(rows), 2), dtype=object)
        for index, pair in enumerate(zip(rows, said, strict=True)):
            found[index] = pair
        return found

    def figures(self, row: str, seen: Seen) -> list[Figure]:
        """A rate a set."""
        found = self._fluent(seen.own, seen)
        return [
            self.figure(row, name, Items(seen.own[name].names, values), *interval_of(values))
            for name, values in found.items()
        ]

    def kept(self, seen: Seen) -> Kept | None:
        """The rate over all that must be kept, and the base's; None where nothing was asked."""
        own, base = (
            np.concatenate(parts) if (parts := list(found.values())) else None
            for found in (
                self._fluent({name: one for name, one in items.items() if name not in APART}, seen)
                for items in (seen.own, seen.base)
            )
        )
        if own is None or base is None:
            return None
        rate, shown = Rate.mean(own), Rate.mean(base)
        return Kept(rate, shown, ratio_above_floor(rate, shown), len(seen.own))

    def _fluent(self, own: Mapping[str, Items], seen: Seen) -> dict[str, np.ndarray]:
        bound = self._bound(seen)
        return {name: _judged(seen.subject, items.values, bound) for name, items in own.items()}

    def _bound(self, seen: Seen) -> float:
        """The log-probability a token that all but a few right answers have at other questions."""
        swapped = []
        for name, items in seen.base.items():
            rows = [row for row, _ in items.values] if name not in APART else []
            for index, row in enumerate(rows):
                others = (rows[(index + step) % len(rows)].answer for step in range(1, len(rows)))
                other = next((answer for answer in others if answer != row.answer), None)
                if other is not None:
                    swapped.append(replace(row, answer=other))
        return float(np.quantile(_said_log_p(seen.subject, swapped), _RARE)) if swapped else -np.inf


def _judged(base: Subject, pairs: np.ndarray, bound: float) -> np.ndarray:
    """Whether each answer (row, text) is fluent: booleans (n,)."""
    found = np.zeros(len(pairs), dtype=bool)
    open_ones: dict[int, QA] = {}
    for index, (row, text) in enumerate(pairs):
        asked = replace(row, answer=text)
        if holds(text, (row.answer, *row.alternatives, *row.refusals, *shipped_refusals())):
            found[index] = True
        # Broken characters may take more tokens to read than they took to write.
        elif text.strip() and repetition(text) <= _BABBLE and base.model.reader.fits(asked):
            open_ones[index] = asked
    found[list(open_ones)] = _said_log_p(base, list(open_ones.values())) >= bound
    return found


def _said_log_p(base: Subject, rows: Sequence[QA]) -> np.ndarray:
    """As `mean_log_p`, without the end of the text: an answer may be cut."""
    return np.array([scores.answer.log_p.mean() for scores in base.scores(rows)])
