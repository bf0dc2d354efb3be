"""From readings to a curve's figures, and from the model's curves and gold's to the relearning advantage."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import numpy as np

from oubliette.audit.result import GOLD, NOVEL, Curve, Reading, RelearningAdvantage, usable
from oubliette.eval import resistance
from oubliette.eval.statistics import Estimate, t_interval

__all__ = ["HALF", "MOST", "make_curve", "sooner"]

HALF, MOST = 0.5, 0.9
_DRAWS = 400
_FEWEST_RUNS = 3


def make_curve(subject: str, seed: int, readings: Sequence[Reading]) -> Curve:
    """A curve with its figures; those are None where no reading counts."""
    bare = Curve(subject, seed, list(readings), None, None, None, None)
    points = usable(bare)
    if not points:
        return bare
    course = _course([reading.leakage.value for reading in points if reading.leakage is not None], points)
    return replace(
        bare,
        to_half=resistance.steps_to(course, HALF),
        to_most=resistance.steps_to(course, MOST),
        area=resistance.area(course) if len(points) > 1 else None,
        recovered=resistance.recovered(course),
    )


def sooner(
    model: Sequence[Curve], gold: Sequence[Curve], level: float, *, seed: int = 0, against: str = GOLD
) -> RelearningAdvantage | None:
    """How many times sooner the model has the concept back than gold, as a natural logarithm.

    Runs of one seed are compared with each other, on the points that count in both. The value is that of the
    mean curves, or the mean over runs where there are three that all tell. None where nothing is to be
    compared. `against` says whose curves `gold` are: a "novel" concept's may stand there.
    """
    pairs = _pairs(model, gold)
    if not pairs:
        return None
    each = [_advantage([own], [other], level) for own, other in pairs]
    own, other = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    whole = _advantage(own, other, level)
    values = [made.value for made in each]
    note = _note(whole.note, against)
    if whole.value is None:
        return RelearningAdvantage(
            level, _state(own, other, level), None, None, None, "", values, "", note, against
        )
    told = [made.value for made in each if made.value is not None and made.bound == "="]
    if len(told) >= _FEWEST_RUNS and len(told) == len(each):
        over = t_interval(told)
        return RelearningAdvantage(
            level, "told", over.value, over.low, over.high, "=", values, "runs", note, against
        )
    low, high = _bootstrap(own, other, level, seed)
    return RelearningAdvantage(
        level, "told", whole.value, low, high, whole.bound, values, "pictures", note, against
    )


def _note(note: str, against: str) -> str:
    """A note on two curves (`oubliette.eval.resistance`), which calls the second one gold's."""
    if against != NOVEL:
        return note
    return note.replace("the gold model", "gold").replace("gold", "the novel concept")


def _course(values: Sequence[float], points: Sequence[Reading]) -> resistance.Curve:
    made = []
    for value, reading in zip(values, points, strict=True):
        estimate = Estimate(float(value), None, None, reading.rate.n)
        made.append(
            resistance.Point(step=reading.step, leakage=estimate, rate=reading.rate, kept=reading.kept)
        )
    return resistance.Curve("", tuple(made))


def _pairs(model: Sequence[Curve], gold: Sequence[Curve]) -> list[tuple[list[Reading], list[Reading]]]:
    """The readings of both at the steps that count in both, run by run."""
    others = {curve.seed: curve for curve in gold}
    pairs = []
    for curve in model:
        other = others.get(curve.seed)
        if other is None:
            continue
        own, control = ({r.step: r for r in usable(one)} for one in (curve, other))
        steps = sorted(set(own) & set(control))
        if len(steps) > 1:
            pairs.append(([own[step] for step in steps], [control[step] for step in steps]))
    return pairs


def _advantage(
    own: Sequence[Sequence[Reading]], gold: Sequence[Sequence[Reading]], level: float
) -> resistance.Advantage:
    return resistance.advantage(_mean(own), _mean(gold), level)


def _mean(runs: Sequence[Sequence[Reading]], pick: np.ndarray | None = None) -> resistance.Curve:
    """The mean curve over runs, at the steps that all have; `pick` takes some of the pictures."""
    steps = sorted(set.intersection(*({reading.step for reading in run} for run in runs)))
    by_step = [{reading.step: reading for reading in run} for run in runs]
    values = [float(np.mean([_leakage(run[step], pick) for run in by_step])) for step in steps]
    return _course(values, [by_step[0][step] for step in steps])


def _leakage(reading: Reading, pick: np.ndarray | None) -> float:
    """A reading's leakage, or what it would be with the picked pictures, base and floor being as they are."""
    assert reading.leakage is not None
    if pick is None:
        return reading.leakage.value
    rate = float(np.asarray(reading.hits)[pick].mean())
    return (rate - reading.floor) / reading.span


def _state(
    own: Sequence[Sequence[Reading]], gold: Sequence[Sequence[Reading]], level: float
) -> Literal["neither", "at once", "undefined"]:
    """Why an advantage has no value."""
    if _at_once(_mean(own), level):
        return "at once"
    return "undefined" if _at_once(_mean(gold), level) else "neither"


def _at_once(curve: resistance.Curve, level: float) -> bool:
    return curve.measured[0][1] >= level


def _bootstrap(
    own: Sequence[Sequence[Reading]], gold: Sequence[Sequence[Reading]], level: float, seed: int
) -> tuple[float | None, float | None]:
    """95 % percentiles over resampled pictures, the same ones for both models and at every step.

    A resample in which the model is there at once lies open above, one in which gold is, below; one in which
    neither gets there says that there is no difference.
    """
    rng = np.random.default_rng([seed, 97])
    n = len(own[0][0].hits)
    found = []
    for _ in range(_DRAWS):
        pick = rng.integers(n, size=n)
        one, other = _mean(own, pick), _mean(gold, pick)
        made = resistance.advantage(one, other, level).value
        if made is None:
            made = np.inf if _at_once(one, level) else -np.inf if _at_once(other, level) else 0.0
        found.append(made)
    low, high = np.quantile(found, [0.025, 0.975], method="nearest")
    return (float(low) if np.isfinite(low) else None, float(high) if np.isfinite(high) else None)
