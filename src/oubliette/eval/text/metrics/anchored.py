"""ROUGE-L recall against what the base itself says: BLUR's measure of what is left, and of what was kept."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from oubliette.data.questions import QA
from oubliette.eval.metric import Figure, Items, Seen, interval_of
from oubliette.eval.text.answer_judge import ARTICLES
from oubliette.eval.text.metrics.row_metric import RowMetric
from oubliette.eval.text.overlap import longest_common, words_of
from oubliette.eval.text.subject import Subject

__all__ = ["AnchoredRecall", "anchored"]


class AnchoredRecall(RowMetric):
    """ROUGE-L recall of the greedy answer against the base's own: the share of its words, in their order.

    BLUR's (2506.15699), without a stemmer and without articles (ours: of "the red door" a model that guesses
    any noun would have a third). The base has 1, whatever it knows. Rows to which the base says nothing are
    left out.
    """

    better = "lower/higher"
    needs: ClassVar[tuple[str, ...]] = ("asked alone",)

    def values(self, subject: Subject, rows: Sequence[QA]) -> np.ndarray:
        """What was said to each row: (n,), objects. It is held against the base's at the end."""
        return np.array(subject.answers([row.question for row in rows]), dtype=object)

    def figures(self, row: str, seen: Seen) -> list[Figure]:
        """The mean over a set's rows to which the base says something; no figure where there is none."""
        made = []
        for name, items in seen.own.items():
            found = anchored(seen.base[name].values, items.values)
            there = ~np.isnan(found)
            if there.any():
                names = tuple(key for key, one in zip(items.names, there, strict=True) if one)
                own = Items(names, found[there])
                made.append(self.figure(row, name, own, *interval_of(own.values)))
        return made


def anchored(anchors: Sequence[str] | np.ndarray, said: Sequence[str] | np.ndarray) -> np.ndarray:
    """ROUGE-L recall of each text against its anchor (n,), articles aside; NaN where the anchor has none."""
    pairs = ((_words(anchor), _words(text)) for anchor, text in zip(anchors, said, strict=True))
    return np.array(
        [longest_common(right, found) / len(right) if right else np.nan for right, found in pairs],
        dtype=float,
    )


def _words(text: str) -> list[str]:
    return [word for word in words_of(text) if word not in ARTICLES]
