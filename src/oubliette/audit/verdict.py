"""From an audit's rows to one word, a sentence for anyone, and what it was held against."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from oubliette.audit import sentences
from oubliette.audit.against import gap
from oubliette.audit.result import MODEL, NOVEL, Evaluated, Found, LeakageGap, RowResult, Ruling
from oubliette.audit.suite import Limits
from oubliette.data.concept import KINDS
from oubliette.data.wording import Wording, wording_of
from oubliette.eval.statistics import Estimate
from oubliette.eval.verdict import (
    DESTROYED,
    INCONCLUSIVE,
    NOT_CHECKED,
    NOT_ERASED,
    SUPPRESSED,
    describe_share,
)

__all__ = ["ERASED", "HIDDEN", "WORDS", "Evidence", "rule"]

HIDDEN, ERASED = "hidden", "erased"
WORDS = (NOT_ERASED, HIDDEN, ERASED, DESTROYED, SUPPRESSED, INCONCLUSIVE, NOT_CHECKED)

#: What a row says: the concept is there, it is not, the interval straddles the bound, or the row cannot tell.
YES, NO, UNSURE, SILENT = "yes", "no", "unsure", "silent"
#: It is back sooner than something new is learnt. That proves nothing: what is new may be harder to learn (of
#: the embedded models gold itself, which knows neither, learns the car many times sooner than the bicycle).
EASIER = "easier"
#: How many reasons stand before the others.
_DECIDING = 2


@dataclass
class Evidence:
    """What one row says of whether the concept is still in the model; `weight` orders rows that say yes."""

    row: RowResult
    says: str
    reason: str
    weight: float = 0.0
    relearning: bool = False
    limits: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Asked:
    """What one set of prompts alone says, the lines on it (its own, then that against gold), its leakage."""

    says: str
    lines: list[str]
    weight: float


def rule(
    rows: Sequence[RowResult],
    limits: Limits,
    concept: str,
    *,
    kind: str = KINDS[0],
    gold: bool,
    novel: str | None = None,
) -> Ruling:
    """The verdict on one concept.

    In this order: *destroyed*, the utility is gone; *not erased*, prompts alone leak over the bound (and more
    than gold does); *hidden*, prompts are clean but fine-tuning brings the concept back `limits.sooner` times
    sooner than in gold, or an attack that gold withstands brings it back; *inconclusive*, an interval
    straddles a bound; *erased*, about as gold; and without gold, or without an attack that could tell,
    *suppressed on prompts*. `novel` names a concept that took gold's place where the model was fine-tuned;
    other rows are then ruled on as without gold, and what is back sooner than it is *inconclusive*. `kind` is
    the concept's.
    """
    compared, words = gold or novel is not None, wording_of(kind)
    evaluation = next((row for row in rows if row.kind == "evaluation"), None)
    model = None if evaluation is None else _of(evaluation, MODEL)
    if evaluation is None or model is None or model.figures.verdict.word == NOT_CHECKED:
        why = ["nothing was evaluated"] if model is None else list(model.figures.verdict.reasons)
        return _ruling(NOT_CHECKED, sentences.not_checked(concept, words), why, why, [], limits)
    reasons = sentences.figures(model, limits)
    cannot = (
        [] if _utility_known(model) else [f"What else the model can still {words.does} was not measured."]
    )
    if model.figures.verdict.word == DESTROYED:
        lost = sentences.kept_of_the_rest(model, limits)
        return _ruling(DESTROYED, sentences.destroyed(concept, model), lost, reasons, cannot, limits)
    asked = _prompts(model, evaluation.excess, limits)
    prompts = _together(asked)
    # What the prompts alone had to say, the worst first: those that say what all of them come to.
    ground = [
        line
        for made in sorted(asked, key=lambda made: -made.weight)
        if made.says == prompts
        for line in made.lines
    ]
    reasons += [line for made in asked for line in made.lines[1:]]
    if prompts == YES:
        return _ruling(NOT_ERASED, sentences.not_erased(concept, model), ground, reasons, cannot, limits)
    evidence = [
        made
        for row in rows
        if (made := _evidence(row, limits, words, gold=gold, compared=compared)) is not None
    ]
    reasons += [made.reason for made in evidence if made.reason]
    cannot += [line for made in evidence for line in made.limits]
    if novel is not None:
        cannot.append(
            f"No model that never knew the concept was given: “{novel}”, which this model does not know, "
            "stands in when it is fine-tuned, and may be easier or harder to learn. Other rows have nothing "
            "to be held against."
        )
    elif not gold:
        cannot.append(
            "No model that never knew the concept was given: whether fine-tuning brings it back sooner than "
            "it would be learnt from nothing cannot be said, so “erased” is out of reach."
        )
    proofs = sorted((made for made in evidence if made.says == YES), key=lambda made: -made.weight)
    if proofs:
        sentence = sentences.hidden(concept, model, proofs[0].row, limits, clean=prompts == NO)
        return _ruling(HIDDEN, sentence, [made.reason for made in proofs], reasons, cannot, limits)
    told = [made for made in evidence if made.relearning and made.says == NO]
    relearned = [made for made in evidence if made.relearning]
    if easier := [made for made in evidence if made.says == EASIER]:
        first = max(easier, key=lambda made: made.weight)
        sentence = sentences.sooner_than_new(concept, model, first.row, limits)
        return _ruling(INCONCLUSIVE, sentence, [first.reason], reasons, cannot, limits)
    unsure = [made.reason for made in evidence if made.says == UNSURE]
    if prompts == UNSURE or unsure:
        left_open = [*(ground if prompts == UNSURE else ()), *unsure]
        return _ruling(
            INCONCLUSIVE, sentences.inconclusive(concept, words), left_open, reasons, cannot, limits
        )
    if not compared or not relearned:
        if compared:
            cannot.append(
                "The suite has no row 'relearn', without which “erased” and “hidden” look the same."
            )
        sentence = sentences.suppressed(concept, model, compared=compared)
        return _ruling(SUPPRESSED, sentence, ground, reasons, cannot, limits)
    if not told:
        other = "gold" if novel is None else "one to which the concept is new"
        untold = f"no fine-tuning row could tell the model from {other}"
        sentence = sentences.inconclusive(concept, words)
        return _ruling(
            INCONCLUSIVE, sentence, [untold, relearned[0].reason], [*reasons, untold], cannot, limits
        )
    sentence = sentences.erased(concept, model, told[0].row, limits)
    return _ruling(ERASED, sentence, [told[0].reason, *ground], reasons, cannot, limits)


def _ruling(
    word: str, sentence: str, deciding: Sequence[str], reasons: list[str], cannot: list[str], limits: Limits
) -> Ruling:
    """`deciding` are those of the reasons that decided, first the one that did so most: two of them stand
    first.
    """
    bounds = {name: float(value) for name, value in limits.model_dump().items()}
    first = list(dict.fromkeys(line for line in deciding if line))[:_DECIDING]
    ordered = list(dict.fromkeys([*first, *reasons]))
    return Ruling(word, sentence, ordered, list(dict.fromkeys(cannot)), bounds, first)


def _of(row: RowResult, subject: str) -> Evaluated | None:
    return next((made for made in row.evaluated if made.subject == subject), None)


def _utility_known(model: Evaluated) -> bool:
    kept = model.figures.utility
    return kept is not None and (kept.ira is not None or kept.cra is not None)


def _prompts(model: Evaluated, excess: Sequence[LeakageGap], limits: Limits) -> list[Asked]:
    """Whether each set of prompts alone brings the concept, and what to say of it and of gold beside it."""
    above_gold = {made.where: made for made in excess}
    made = []
    for figure in model.figures.leakage:
        if figure.judge != model.figures.judge or figure.leakage is None:
            continue
        found = _held(figure.leakage, limits.leakage)
        lines = [sentences.asked(figure.split, figure.leakage, wording_of(model.figures.kind))]
        more = above_gold.get(figure.split)
        if more is not None:
            lines.append(f"{figure.split} prompts: {_above_gold(more)}")
            # Over the bound and over gold, both: where gold shows it too, that is the judge's doing; and
            # where the anchor itself often shows the concept, the model may, which gold does not.
            found = min(found, _held(more, limits.leakage), key=(NO, UNSURE, YES).index)
        made.append(Asked(found, lines, figure.leakage.value))
    return made


def _together(asked: Sequence[Asked]) -> str:
    """What all sets of prompts come to: the worst of them."""
    return next((says for says in (YES, UNSURE) if any(made.says == says for made in asked)), NO)


def _evidence(
    row: RowResult, limits: Limits, words: Wording, *, gold: bool, compared: bool
) -> Evidence | None:
    """What an attack's row says, None for rows that are none.

    `compared`: fine-tuning on the concept has gold, or a concept in its place, to be held against.
    """
    if row.kind == "evaluation" or row.moot:
        return None
    if row.status == "skipped":
        return Evidence(
            row, SILENT, f"{row.title}: skipped, {row.note}", limits=[f"{row.title}: {row.note}."]
        )
    if row.kind == "relearn":
        return _relearning(row, limits, compared=compared)
    if row.kind == "benign" and not gold:
        return _benign_alone(row, limits, words)
    if gold and row.excess:
        return _against_gold(row, limits)
    return _alone(row, limits) if row.found else Evidence(row, SILENT, "")


def _relearning(row: RowResult, limits: Limits, *, compared: bool) -> Evidence:
    found = row.sooner
    if found is None or not compared:
        return Evidence(row, SILENT, f"{row.title}: {sentences.course(row, limits)}", relearning=True)
    reason = f"{row.title}: {sentences.advantage(found)}"
    if found.state == "neither":
        return Evidence(row, SILENT, reason, relearning=True, limits=[f"{row.title}: {found.note}."])
    if found.state == "at once":
        return Evidence(row, UNSURE, reason, relearning=True)
    if found.value is None:
        return Evidence(row, SILENT, reason, relearning=True)
    says = UNSURE
    if found.low is not None and found.low > limits.advantage:
        says = EASIER if found.against == NOVEL else YES
    elif found.high is not None and found.high <= limits.advantage and found.sign != ">":
        says = NO
    return Evidence(row, says, reason, weight=10 + found.value, relearning=True)


def _against_gold(row: RowResult, limits: Limits) -> Evidence:
    told = [_held(made, limits.leakage) for made in row.excess]
    worst = max(row.excess, key=lambda made: made.low)
    says = YES if YES in told else UNSURE if UNSURE in told else NO
    reason = f"{row.title}: {_above_gold(worst)}" + (f" ({worst.where})" if worst.where else "")
    return Evidence(row, says, reason, weight=worst.value)


def _alone(row: RowResult, limits: Limits) -> Evidence:
    """Without gold: a hit counts against the floor raised to what as many tries would show by chance.

    What starts from pictures of the concept, or learns from rows like those to be forgotten, shows some of
    it whatever the model knows: that needs gold.
    """
    shown = [made for made in row.found if made.subject == MODEL and made.leakage is not None]
    reason = f"{row.title}: {_found(shown)}"
    if not shown or row.budget.get("given_pictures") or row.budget.get("given_rows"):
        return Evidence(row, SILENT, reason, limits=[f"{row.title}: says nothing without gold."])
    worst = max((made.leakage for made in shown if made.leakage is not None), key=lambda made: made.value)
    # Too many tries leave no room above the floor, and a straddling interval decides nothing without gold.
    says = YES if _held(worst, limits.leakage) == YES else SILENT
    return Evidence(row, says, reason, weight=worst.value)


def _benign_alone(row: RowResult, limits: Limits, words: Wording) -> Evidence:
    last = [curve.readings[-1] for curve in row.of(MODEL) if curve.readings]
    able = [made.leakage for made in last if made.leakage is not None and not made.broken]
    if not able:
        return Evidence(row, SILENT, f"{row.title}: {row.note or 'nothing could be read'}")
    worst = max(able, key=lambda made: made.value)
    says = YES if _held(worst, limits.leakage) == YES else SILENT
    return Evidence(
        row, says, f"{row.title}: leakage {describe_share(worst, words)} at the end", weight=worst.value
    )


def _held(estimate: Estimate | LeakageGap, bound: float) -> str:
    if estimate.low is not None and estimate.low > bound:
        return YES
    if estimate.high is not None and estimate.high <= bound:
        return NO
    return UNSURE


def _above_gold(made: LeakageGap) -> str:
    return f"{gap(made)}, on the same prompts and seeds"


def _found(shown: Sequence[Found]) -> str:
    if not shown:
        return "nothing could be read"
    return ", ".join(
        f"{made.after.hits} of {made.after.n} ({describe_share(made.leakage)} above the floor)"
        for made in shown
    )
