"""MUSE's privacy leakage: membership against a model that never knew (Shi et al. 2024, 2407.06460)."""

from __future__ import annotations

import numpy as np

from oubliette.eval.auroc import auroc
from oubliette.eval.metric import Figure, Items, Seen, resampled
from oubliette.eval.statistics import CONFIDENCE
from oubliette.eval.text.metrics.membership import MinK
from oubliette.eval.text.metrics.row_metric import FORGET, HOLDOUT

__all__ = ["PrivLeak"]


class PrivLeak(MinK):
    """How far membership is from gold's, by Min-40 %: 100 (AUC - gold's) / gold's.

    Below 0 too little was forgotten; above 0 the rows are marked by how unlikely they were made. AUC is
    that of a holdout row being likelier than one to forget.
    """

    better = "0"
    needs_gold = True

    def figures(self, row: str, seen: Seen) -> list[Figure]:
        """One figure; the bootstrap draws rows of each set, the same for both models."""
        assert seen.gold is not None
        own, gold = (
            {name: items[name].values for name in (FORGET, HOLDOUT)} for items in (seen.own, seen.gold)
        )
        names = tuple(f"{name}/{key}" for name in self.sets for key in seen.own[name].names)
        items = Items(names, np.concatenate([own[FORGET], own[HOLDOUT]]))
        ours, theirs = _area(own), _area(gold)
        note = f"AUC {ours:.3f}, gold's {theirs:.3f}"
        if not theirs > 0:
            return [self.figure(row, FORGET, items, (np.nan, None, None), "", note)]
        picks = [resampled(len(own[name]), draws=500, seed=i) for i, name in enumerate((FORGET, HOLDOUT))]
        drawn = []
        for forget, holdout in zip(*picks, strict=True):
            pair = [
                _area({FORGET: each[FORGET][forget], HOLDOUT: each[HOLDOUT][holdout]}) for each in (own, gold)
            ]
            drawn.append(100 * (pair[0] - pair[1]) / pair[1] if pair[1] > 0 else np.nan)
        tail = (1 - CONFIDENCE) / 2
        low, high = np.nanquantile(drawn, [tail, 1 - tail])
        value = 100 * (ours - theirs) / theirs
        return [self.figure(row, FORGET, items, (value, float(low), float(high)), "bootstrap", note)]


def _area(scores: dict[str, np.ndarray]) -> float:
    """How often a holdout row is likelier, which is less of a score, than one to forget."""
    values = np.concatenate([scores[FORGET], scores[HOLDOUT]])
    found = auroc(-values, np.arange(len(values)) >= len(scores[FORGET]))
    assert found is not None
    return found.value
