"""TOFU's truth ratio, and forget quality, which compares it with gold's (Maini et al. 2024, 2401.06121)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
from scipy import stats

from oubliette.data.questions import QA
from oubliette.eval.metric import Figure, Seen
from oubliette.eval.text.metrics.probability import mean_log_p
from oubliette.eval.text.metrics.row_metric import FORGET, RowMetric
from oubliette.eval.text.subject import Subject

__all__ = ["ForgetQuality", "TruthRatio", "truth_ratios"]

#: exp of more is no float.
_LARGEST = 700.0


def truth_ratios(subject: Subject, rows: Sequence[QA]) -> np.ndarray:
    """R = P(wrong) / P(right) a row, (n,): geometric means over tokens, P(wrong) over wrong answers too.

    The right answer is the paraphrased one (`alternatives`) where there is one, since wrong ones are worded
    like it. P(wrong) averages losses, as the released code does now; the paper averages probabilities.
    """
    wrong = iter(mean_log_p(subject, [replace(row, answer=each) for row in rows for each in row.wrong]))
    right = mean_log_p(
        subject,
        [replace(row, answer=row.alternatives[0] if row.alternatives else row.answer) for row in rows],
    )
    apart = [np.mean([next(wrong) for _ in row.wrong]) - own for row, own in zip(rows, right, strict=True)]
    return np.exp(np.clip(apart, -_LARGEST, _LARGEST))


class TruthRatio(RowMetric):
    """How much likelier wrong answers are than a right one, R a row, which are the items' values.

    Of what was to be forgotten the mean of min(R, 1/R), of the rest the mean of max(0, 1 - R).
    """

    better = "higher"
    needs: ClassVar[tuple[str, ...]] = ("question", "wrong")

    def values(self, subject: Subject, rows: Sequence[QA]) -> np.ndarray:
        """R."""
        return truth_ratios(subject, rows)

    def aggregate(self, name: str) -> Callable[..., Any]:
        """TOFU's two reports."""
        if name == FORGET:
            return lambda values, axis: np.minimum(values, 1 / values).mean(axis=axis)
        return lambda values, axis: np.maximum(0.0, 1 - values).mean(axis=axis)


class ForgetQuality(TruthRatio):
    """The p-value of a two-sample Kolmogorov-Smirnov test between the model's truth ratios and gold's.

    On the forget set. 1 is what gold itself has; at most 0.05 tells the two apart.
    """

    sets: ClassVar[tuple[str, ...]] = (FORGET,)
    needs_gold = True

    def figures(self, row: str, seen: Seen) -> list[Figure]:
        """One figure, without an interval."""
        assert seen.gold is not None
        own = seen.own[FORGET]
        p = float(stats.ks_2samp(own.values, seen.gold[FORGET].values).pvalue)
        note = f"log10 p = {np.log10(p):.2f}" if p else "p is below what a float holds"
        return [self.figure(row, FORGET, own, (p, None, None), "", note)]
