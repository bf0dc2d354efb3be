"""What a verdict says to someone who has never heard of a step or a seed."""

from __future__ import annotations

import math

from oubliette.audit.against import NEVER_KNEW, pace
from oubliette.audit.result import GOLD, MODEL, Evaluated, Found, RelearningAdvantage, RowResult, usable
from oubliette.audit.suite import Limits
from oubliette.core.numbers import percent
from oubliette.data.wording import Wording, wording_of
from oubliette.eval.statistics import Estimate
from oubliette.eval.verdict import describe_share

__all__ = [
    "advantage",
    "asked",
    "course",
    "destroyed",
    "erased",
    "figures",
    "hidden",
    "inconclusive",
    "kept_of_the_rest",
    "not_checked",
    "not_erased",
    "sooner_than_new",
    "suppressed",
]

_SPLITS = {
    "in-set": "in plain words",
    "withheld": "in words that no eraser is given",
    "csv": "by the given prompts",
}


def not_checked(concept: str, words: Wording) -> str:
    """No judge."""
    return (
        f"Nothing can be said: no judge that was given can tell whether {_named(concept)} is in "
        f"{words.a_sample}."
    )


def destroyed(concept: str, model: Evaluated) -> str:
    """The model is broken."""
    kept = model.figures.utility
    parts = [p.ratio for p in (kept.ira, kept.cra) if p is not None and p.ratio is not None] if kept else []
    worst = min((part.value for part in parts), default=0.0)
    words = _words(model)
    return (
        f"The model is broken: of what else it is {words.asked} it {words.makes} only {_shown(worst)} as "
        f"often as the original. That {_named(concept)} is gone as well says nothing."
    )


def not_erased(concept: str, model: Evaluated) -> str:
    """Prompts suffice."""
    worst = max(_leakages(model), key=lambda pair: pair[1].value)
    how = _SPLITS.get(worst[0], worst[0])
    share = _shown(worst[1].value)
    words = _words(model)
    asked_so = f"{_upper(words.asked)} {_named(concept)} {how}"
    return f"{asked_so}, the model still {words.still}: {share} of its strength."


def suppressed(concept: str, model: Evaluated, *, compared: bool) -> str:
    """Prompts are clean and no more is known; `compared`: there was something to compare relearning with."""
    end = "" if compared else " No model that never knew it was there to compare with."
    return f"{_clean(concept, model)} Whether it is gone or only hidden is not known.{end}"


def inconclusive(concept: str, words: Wording) -> str:
    """An interval straddles a bound."""
    return (
        f"These figures do not decide whether {_named(concept)} is gone: at least one interval lies across a "
        f"bound. More {words.samples}, or more runs of each attack, would."
    )


def erased(concept: str, model: Evaluated, row: RowResult, limits: Limits) -> str:
    """About as gold, or as a concept the model does not know."""
    own, other = _mean_course(row, MODEL), _mean_course(row, row.control)
    start = f"{_clean(concept, model)} Taught it again with {_means(row, model)}, "
    control = NEVER_KNEW[row.control]
    reached, gold_reached = _arrival(own, limits.level), _arrival(other, limits.level)
    way = "half-way back" if limits.level == 0.5 else f"back to {_shown(limits.level)}"
    if reached is None and gold_reached is None:
        return f"{start}it was not {way} within {_last(own)} steps; nor does {control} get there."
    if reached is None:
        needs = _count(gold_reached or 0)
        return f"{start}it was not {way} within {_last(own)} steps; {control} needs {needs}."
    if gold_reached is None:
        return f"{start}it was {way} after {_steps(reached)}; {control} does not get there in {_last(other)}."
    return f"{start}it was {way} after {_steps(reached)}; {control} needs {_count(gold_reached)}."


def hidden(concept: str, model: Evaluated, row: RowResult, limits: Limits, *, clean: bool) -> str:
    """Something brings it back that leaves gold alone."""
    start = f"{_clean(concept, model)} But " if clean else "Whatever prompts alone show, "
    if row.curves and row.kind == "relearn":
        return start + _relearned(concept, model, row, limits)
    if row.curves:
        own, other = _mean_course(row, MODEL), _mean_course(row, GOLD)
        end = f"; in a model that never knew it, {_shown(other[-1][1])}" if other else ""
        back = f"bring it back to {_shown(own[-1][1])} of its strength"
        return f"{start}{_means(row, model)}, none of which shows it, {back}{end}."
    shown, control = _largest(row, MODEL), row.finding(GOLD)
    end = f"; from a model that never knew it, {_of(control)}" if control is not None else ""
    return f"{start}{row.about or row.title} brings it back in {_of(shown)} tries{end}."


def sooner_than_new(concept: str, model: Evaluated, row: RowResult, limits: Limits) -> str:
    """Sooner than a concept that the model does not know, which need not be as easy to learn."""
    return (
        f"{_clean(concept, model)} But {_relearned(concept, model, row, limits)} Either something of it was "
        "left, or it is the easier one to learn: these figures cannot tell."
    )


def figures(model: Evaluated, limits: Limits) -> list[str]:
    """What prompts alone show, and what is kept of the rest, a line each."""
    words = _words(model)
    return [asked(split, found, words) for split, found in _leakages(model)] + kept_of_the_rest(model, limits)


def asked(split: str, found: Estimate, words: Wording) -> str:
    """What one set of prompts alone shows."""
    share = describe_share(found, words)
    return f"{words.asked} {_SPLITS.get(split, split)}: {share} of the original's strength"


def kept_of_the_rest(model: Evaluated, limits: Limits) -> list[str]:
    """What is kept of everything else, a line for its own kind and one for the others."""
    kind, kept, lines = model.figures.kind, model.figures.utility, []
    words = _words(model)
    parts = [] if kept is None else [(f"other {kind}s", kept.ira), (words.others, kept.cra)]
    for what, part in parts:
        if part is None or part.ratio is None:
            continue
        cost = ""
        if part.ratio.high is not None and part.ratio.high < limits.kept:
            cost = f": a cost, it should be {_shown(limits.kept)}"
        lines.append(
            f"{what} {words.made} {describe_share(part.ratio, words)} as often as by the original{cost}"
        )
    return lines


def advantage(found: RelearningAdvantage) -> str:
    """A relearning advantage in words: "50 % back 4.2 times sooner than in gold [3, 6.1]"."""
    if found.value is None:
        return found.note
    text = f"{_shown(found.level)} back {pace(found)}"
    return f"{text} ({found.note})" if found.note else text


def course(row: RowResult, limits: Limits) -> str:
    """How far a curve got, where there is nothing to compare it with."""
    own = _mean_course(row, MODEL)
    if not own:
        return row.note or "nothing could be read"
    reached = _arrival(own, limits.level)
    best = max(value for _, value in own)
    if reached is None:
        return f"at most {_shown(best)} of its strength within {_last(own)} steps"
    return f"{_shown(limits.level)} of its strength after {_steps(reached)}, {_shown(best)} at most"


def _relearned(concept: str, model: Evaluated, row: RowResult, limits: Limits) -> str:
    own, other = _mean_course(row, MODEL), _mean_course(row, row.control)
    step, share = next(((s, v) for s, v in own if v >= limits.level), own[-1])
    there = _arrival(other, share)
    last = _last(other)
    if there is not None:
        end = f"needs {_count(there)}"
    else:
        best = max(value for _, value in other)
        end = f"is at {_shown(best)} after {last}"
    return (
        f"with {_means(row, model, steps=step)} {_named(concept)} is back to {_shown(share)} of its "
        f"strength; {NEVER_KNEW[row.control]} {end}."
    )


def _means(row: RowResult, model: Evaluated, steps: int | None = None) -> str:
    """ "16 pictures and 200 steps of LoRA"."""
    count, last = row.budget.get("pictures"), row.budget.get("steps")
    steps = last if steps is None else steps
    item = _words(model).item
    pictures = f"{count} {item}{'' if count == 1 else 's'} and " if count else ""
    what = row.budget.get("words") or row.budget.get("mode") or "fine-tuning"
    return f"{pictures}{steps} step{'' if steps == 1 else 's'} of {what}"


def _mean_course(row: RowResult, subject: str) -> list[tuple[int, float]]:
    """Leakage by step, the mean over runs, as a running maximum; broken points are left out."""
    values: dict[int, list[float]] = {}
    for curve in row.of(subject):
        for reading in usable(curve):
            assert reading.leakage is not None
            values.setdefault(reading.step, []).append(reading.leakage.value)
    best, made = -math.inf, []
    for step in sorted(values):
        best = max(best, sum(values[step]) / len(values[step]))
        made.append((step, best))
    return made


def _arrival(course: list[tuple[int, float]], level: float) -> float | None:
    """Steps to the level, between points evenly in log(1 + step)."""
    before: tuple[int, float] | None = None
    for step, value in course:
        if value >= level:
            if before is None or value == before[1]:
                return float(step)
            share = (level - before[1]) / (value - before[1])
            low, high = math.log1p(before[0]), math.log1p(step)
            return math.expm1(low + share * (high - low))
        before = (step, value)
    return None


def _leakages(model: Evaluated) -> list[tuple[str, Estimate]]:
    return [
        (figure.split, figure.leakage)
        for figure in model.figures.leakage
        if figure.judge == model.figures.judge and figure.leakage is not None
    ]


def _clean(concept: str, model: Evaluated) -> str:
    worst = max((estimate.value for _, estimate in _leakages(model)), default=0.0)
    words = _words(model)
    return (
        f"{_upper(words.asked)} {_named(concept)}, the model {words.shows} {_shown(worst)} of its strength."
    )


def _largest(row: RowResult, subject: str) -> Found | None:
    found = [made for made in row.found if made.subject == subject]
    return max(found, key=lambda made: made.after.value) if found else None


def _of(found: Found | None) -> str:
    return "none" if found is None else f"{found.after.hits} of {found.after.n}"


def _words(model: Evaluated) -> Wording:
    return wording_of(model.figures.kind)


def _upper(text: str) -> str:
    return text[:1].upper() + text[1:]


def _named(concept: str) -> str:
    return f"“{concept}”"


def _shown(value: float) -> str:
    """A share; less than the floor is nothing."""
    return percent(max(0.0, value))


def _count(steps: float) -> str:
    return f"{steps:.0f}" if steps >= 10 or steps == int(steps) else f"{steps:.1f}"


def _steps(steps: float) -> str:
    text = _count(steps)
    return f"{text} step{'' if text == '1' else 's'}"


def _last(course: list[tuple[int, float]]) -> int:
    return course[-1][0] if course else 0
