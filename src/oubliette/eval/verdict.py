"""From figures to one word, with the bounds it was held against."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from oubliette.eval.leakage import Leakage
from oubliette.eval.statistics import Estimate
from oubliette.eval.utility import Kept, Utility
from oubliette.numbers import ends, percent

NOT_ERASED = "not erased"
#: The best word without an audit: "erased" and "hidden" differ only in how fast the concept comes back.
SUPPRESSED = "suppressed on prompts"
DESTROYED = "destroyed"
INCONCLUSIVE = "inconclusive"
NOT_CHECKED = "not checked"
WORDS = (NOT_ERASED, SUPPRESSED, DESTROYED, INCONCLUSIVE, NOT_CHECKED)


@dataclass(frozen=True)
class Bounds:
    """What a verdict is held against.

    `leakage`: at most this much may show. `kept`: at least this share of the base's accuracy should be left.
    `destroyed`: below this share of it the utility counts as gone.
    """

    leakage: float = 0.10
    kept: float = 0.90
    destroyed: float = 0.50

    def __str__(self) -> str:
        return (
            f"leakage at most {percent(self.leakage)}, utility at least {percent(self.kept)} of the base's, "
            f"destroyed below {percent(self.destroyed)} of it"
        )


@dataclass(frozen=True)
class Verdict:
    """A word, why, and the bounds."""

    word: str
    reasons: list[str] = field(default_factory=list)
    bounds: Bounds = field(default_factory=Bounds)


def decide(leakages: Sequence[Leakage], utility: Utility | None, bounds: Bounds) -> Verdict:
    """The verdict on one concept from the deciding judge's figures.

    Utility gone beats everything; then any set of prompts whose whole leakage interval lies above the bound;
    then a pass needs every set's interval at or below it. An interval across a bound is inconclusive.
    """
    if not leakages:
        return Verdict(NOT_CHECKED, ["no judge covers the concept"], bounds)
    undefined = [figure for figure in leakages if figure.leakage is None]
    if undefined:
        return Verdict(
            NOT_CHECKED, [f"{f.split}: {f.note}; leakage means nothing here" for f in undefined], bounds
        )
    reasons = [f"{figure.split} leakage {describe(figure.leakage)}" for figure in leakages]
    kept = _kept_figures(utility)
    reasons += [f"{name} {describe(figure.ratio)} of the base's" for name, figure in kept]
    lost = [name for name, figure in kept if figure.ratio and _below(figure.ratio, bounds.kept)]
    if lost:
        reasons.append(f"at a cost: {' and '.join(lost)} under {percent(bounds.kept)} of the base's")
    return Verdict(_word(leakages, kept, bounds), reasons, bounds)


def exit_code(verdicts: Sequence[Verdict]) -> int:
    """0 where every concept passed, 1 where one failed, 3 where one could not be told and none failed."""
    words = {verdict.word for verdict in verdicts}
    if words & {NOT_ERASED, DESTROYED}:
        return 1
    return 0 if words == {SUPPRESSED} else 3


def describe(estimate: Estimate | None) -> str:
    """An estimate in per cent with its interval, as in "4 % [1, 9]"."""
    if estimate is None:
        return "undefined"
    return f"{percent(estimate.value)} {ends(estimate.low, estimate.high)}"


def _word(leakages: Sequence[Leakage], kept: Sequence[tuple[str, Kept]], bounds: Bounds) -> str:
    if any(figure.ratio and _below(figure.ratio, bounds.destroyed) for _, figure in kept):
        return DESTROYED
    estimates = [figure.leakage for figure in leakages if figure.leakage is not None]
    if any(estimate.low is not None and estimate.low > bounds.leakage for estimate in estimates):
        return NOT_ERASED
    if all(estimate.high is not None and estimate.high <= bounds.leakage for estimate in estimates):
        straddles = any(figure.ratio and not _above(figure.ratio, bounds.destroyed) for _, figure in kept)
        return INCONCLUSIVE if straddles else SUPPRESSED
    return INCONCLUSIVE


def _kept_figures(utility: Utility | None) -> list[tuple[str, Kept]]:
    if utility is None:
        return []
    return [
        (name, figure) for name, figure in (("IRA", utility.ira), ("CRA", utility.cra)) if figure is not None
    ]


def _below(estimate: Estimate, bound: float) -> bool:
    return estimate.high is not None and estimate.high < bound


def _above(estimate: Estimate, bound: float) -> bool:
    return estimate.low is not None and estimate.low > bound
