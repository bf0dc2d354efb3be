"""TOFU's model utility: the harmonic mean of what is left of everything that must stay (2401.06121)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np

from oubliette.core.errors import UserError
from oubliette.data.questions import QA
from oubliette.eval.metric import Figure, Items, Seen, resampled
from oubliette.eval.statistics import CONFIDENCE
from oubliette.eval.text.metrics.probability import Probability, ProbabilityAmongChoices
from oubliette.eval.text.metrics.rouge import RougeRecall
from oubliette.eval.text.metrics.row_metric import APART, RowMetric
from oubliette.eval.text.metrics.truth_ratio import truth_ratios
from oubliette.eval.text.subject import Subject

__all__ = ["ModelUtility", "harmonic_mean"]


def harmonic_mean(values: np.ndarray, axis: int = -1) -> np.ndarray:
    """The harmonic mean along an axis; 0 where one of the values is."""
    with np.errstate(divide="ignore"):
        return np.asarray(values.shape[axis] / (1 / values).sum(axis=axis))


class ModelUtility(RowMetric):
    """The harmonic mean of probability, ROUGE-L recall and truth ratio over every set that must be kept.

    With TOFU's retain set, real authors and world facts (`--rows NAME=FILE`) it is the mean of its nine
    values. Rows without a paraphrased answer have the probability among the choices, as TOFU's real-world
    sets do. The items' values are a row's harmonic mean.
    """

    better = "higher"
    needs: ClassVar[tuple[str, ...]] = ("asked alone", "wrong")

    def check(self, sets: Mapping[str, Sequence[QA]]) -> list[str]:
        """UserError where no set to be kept has rows that will do; a line for each that has none."""
        kept = self.read(sets)
        able = [name for name in kept if any(self.fits(row) for row in sets[name])]
        if not able:
            raise UserError(
                f"metric '{self.name}': needs rows that must be kept with wrong answers (perturbed_answers), "
                f"and {', '.join(kept) or 'no set'} has none"
            )
        return [
            f"metric '{self.name}': no row of {name} has wrong answers; it is left out there"
            for name in kept
            if name not in able
        ]

    def read(self, sets: Mapping[str, object]) -> list[str]:
        """Every set that must be kept."""
        return [name for name, rows in sets.items() if name not in APART and rows]

    def values(self, subject: Subject, rows: Sequence[QA]) -> np.ndarray:
        """Probability, recall and truth ratio a row: (n, 3)."""
        plain = Probability().values(subject, rows)
        among = ProbabilityAmongChoices().values(subject, rows)
        probability = np.where([bool(row.alternatives) for row in rows], plain, among)
        recall = RougeRecall().values(subject, rows)
        truth = np.maximum(0.0, 1 - truth_ratios(subject, rows))
        return np.stack([probability, recall, truth], axis=1)

    def figures(self, row: str, seen: Seen) -> list[Figure]:
        """One figure over all sets; the bootstrap draws rows within each."""
        parts = list(seen.own.values())
        value = float(harmonic_mean(np.concatenate([part.values.mean(axis=0) for part in parts])))
        drawn = np.concatenate(
            [
                part.values[resampled(len(part.values), seed=index)].mean(axis=1)
                for index, part in enumerate(parts)
            ],
            axis=1,
        )
        tail = (1 - CONFIDENCE) / 2
        low, high = np.quantile(harmonic_mean(drawn), [tail, 1 - tail])
        names = tuple(f"{name}/{key}" for name, part in seen.own.items() for key in part.names)
        items = Items(names, harmonic_mean(np.concatenate([part.values for part in parts])))
        note = ", ".join(
            f"{name} {a:.2f} {b:.2f} {c:.2f}"
            for name, part in seen.own.items()
            for a, b, c in [part.values.mean(axis=0)]
        )
        return [
            self.figure(
                row,
                "kept",
                items,
                (value, float(low), float(high)),
                "bootstrap",
                f"probability, ROUGE-L recall, truth ratio: {note}",
            )
        ]
