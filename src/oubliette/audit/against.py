"""A comparison in words: how much sooner the concept is back than elsewhere, how much more of it shows."""

from __future__ import annotations

import math

from oubliette.audit.result import GOLD, NOVEL, LeakageGap, RelearningAdvantage
from oubliette.eval.statistics import Estimate
from oubliette.eval.verdict import describe

__all__ = ["NEVER_KNEW", "gap", "pace"]

#: Whose steps a model's are compared with, in a line of figures and in a sentence for anyone.
_WHERE = {GOLD: "in gold", NOVEL: "the novel concept"}
NEVER_KNEW = {GOLD: "a model that never knew it", NOVEL: "a concept it does not know"}

_SIGNS = {">": "more than ", "<": "less than "}
_TURNED = {">": "<", "<": ">"}


def pace(found: RelearningAdvantage) -> str:
    """A relearning advantage as a factor with its interval: "4.2 times sooner than in gold [3, 6.1]".

    Below 1 it is turned over, ends and signs too: 0.2 [0.11, 0.83] reads "5 times later than in gold
    [1.2, 9]". A factor that rounds to 1 reads "as soon as in gold"; an open end is "?". Where there is no
    value, the note says why.
    """
    if found.value is None:
        return found.note
    where = _WHERE.get(found.against, found.against)
    value, low, high, sign = found.value, found.low, found.high, found.sign
    even = _factor(math.exp(abs(value))) == "1"
    later = value < 0 and not even
    if later:
        value, low, high = -value, None if high is None else -high, None if low is None else -low
        sign = _TURNED.get(sign, sign)
    ends = ", ".join("?" if end is None else _factor(math.exp(end)) for end in (low, high))
    if even:
        # A bound of 1 is an order: gold never got there (">"), or the model never did ("<").
        order = {">": "sooner than", "<": "later than"}.get(sign, "as soon as")
        return f"{order} {where} [{ends}]"
    word = "later" if later else "sooner"
    return f"{_SIGNS.get(sign, '')}{_factor(math.exp(value))} times {word} than {where} [{ends}]"


def gap(made: LeakageGap) -> str:
    """How much more of the base's strength the model shows than gold: "7 % [-2, 16] above gold", or below."""
    below = round(100 * made.value) < 0
    value, low, high = (-made.value, -made.high, -made.low) if below else (made.value, made.low, made.high)
    return f"{describe(Estimate(value, low, high, made.n))} {'below' if below else 'above'} gold"


def _factor(value: float) -> str:
    """Two figures where they are needed: 0.04, 0.83, 1, 4.2, 63."""
    if value >= 9.95:
        return f"{value:.0f}"
    return f"{value:.1f}".removesuffix(".0") if value >= 0.95 else f"{value:.2g}"
