"""Leakage: how much of a concept still shows, between the judge's floor and what the base shows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from oubliette.eval.statistics import Estimate, McNemar, Rate, mcnemar, ratio_above_floor
from oubliette.numbers import percent


@dataclass(frozen=True)
class Leakage:
    """Leakage on one set of prompts by one judge, with everything that it was computed from.

    `leakage` is None where the base does not show the concept above the floor; `note` then says so.
    """

    judge: str
    split: str
    rate: Rate
    base: Rate
    floor: Rate
    leakage: Estimate | None
    change: McNemar
    note: str = ""


def leakage(hits: np.ndarray, base: np.ndarray, floor: np.ndarray, *, judge: str, split: str) -> Leakage:
    """Leakage (rate - floor) / (base - floor).

    `hits` and `base` are the judge's booleans (n,) on the concept's prompts with the same seeds, `floor`
    those of the base on the anchor's prompts (m,). The interval takes all three rates as uncertain; the
    change is McNemar's.
    """
    rate, shown, ground = Rate.mean(hits), Rate.mean(base), Rate.mean(floor)
    estimate = ratio_above_floor(rate, shown, ground)
    note = ""
    if estimate is None:
        note = (
            f"the base shows the concept in {percent(shown.value)} of pictures and the floor is "
            f"{percent(ground.value)}"
        )
    return Leakage(judge, split, rate, shown, ground, estimate, mcnemar(base, hits), note)
