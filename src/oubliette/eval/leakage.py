"""Leakage: how much of a concept still shows, between the judge's floor and what the base shows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from oubliette.core.numbers import percent
from oubliette.data.wording import PICTURES, Wording
from oubliette.eval.statistics import Estimate, McNemar, Rate, mcnemar, ratio_above_floor

#: What a floor is taken on where nothing better is known, and was always in figures that do not say.
ON_ANCHOR = "the base's pictures of its anchor"


@dataclass(frozen=True)
class Leakage:
    """Leakage on one set of prompts by one judge, with everything that it was computed from.

    `floor` is how often the judge finds the concept where it is certainly absent, and `ground` says in words
    where that is; `anchor` is how often it finds it in the base's pictures of the anchor (None where that is
    the floor). `leakage` is the estimate as it is, below 0 or not, and None where the base does not show the
    concept above the floor; `note` then says so.
    """

    judge: str
    split: str
    rate: Rate
    base: Rate
    floor: Rate
    leakage: Estimate | None
    change: McNemar
    note: str = ""
    anchor: Rate | None = None
    ground: str = ON_ANCHOR

    def anchor_shows(self, bound: float) -> bool:
        """Whether the anchor itself surely shows the concept: above the floor, or above the bound of a
        verdict.
        """
        if self.anchor is None and self.ground != ON_ANCHOR:
            return False  # nothing was asked for that an anchor would be in
        shown = self.floor if self.anchor is None else self.anchor
        return shown.low > bound or (self.anchor is not None and shown.low > self.floor.high)


def leakage(
    hits: np.ndarray,
    base: np.ndarray,
    floor: np.ndarray,
    *,
    judge: str,
    split: str,
    anchor: np.ndarray | None = None,
    ground: str = ON_ANCHOR,
    words: Wording = PICTURES,
) -> Leakage:
    """Leakage (rate - floor) / (base - floor).

    `hits` and `base` are the judge's booleans (n,) on the concept's prompts with the same seeds, `floor` (m,)
    those on pictures without the concept, which `ground` names, `anchor` (k,) those of the base on the
    anchor's prompts. The interval takes all three rates as uncertain and independent (gold, whose own
    pictures are among those of the floor, gets one that is too wide rather than too narrow); the change is
    McNemar's.
    """
    rate, shown, bottom = Rate.mean(hits), Rate.mean(base), Rate.mean(floor)
    estimate = ratio_above_floor(rate, shown, bottom)
    note = ""
    if estimate is None:
        note = f"{words.floor.format(share=percent(shown.value))} and the floor is {percent(bottom.value)}"
    aside = None if anchor is None else Rate.mean(anchor)
    return Leakage(judge, split, rate, shown, bottom, estimate, mcnemar(base, hits), note, aside, ground)
