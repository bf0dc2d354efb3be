"""Figures as words on the page."""

from __future__ import annotations

from collections.abc import Sequence

from oubliette.core import numbers
from oubliette.core.numbers import ends, unbroken
from oubliette.data.wording import PICTURES, Wording
from oubliette.eval.result import Evaluation, Row
from oubliette.eval.rows import BASE
from oubliette.eval.statistics import Estimate, McNemar, Rate
from oubliette.eval.verdict import SUPPRESSED, WORDS, as_shown, too_few
from oubliette.world.world import OPEN, WORLDS, World

MISSING = "–"


def told_of(world: str | None) -> World | None:
    """The world of that name where it says what it can show; None too for one that is not installed."""
    found = WORLDS.get(world) if world is not None and world in WORLDS else OPEN
    return found if found.can else None


def rate(value: Rate | None) -> str:
    """A rate with its counts: "4 % (2 of 50)"."""
    return MISSING if value is None else f"{percent(value.value)} ({value.hits} of {value.n})"


def interval(value: Rate | None) -> str:
    """A rate's own interval in per cent: "[1, 14]"."""
    return "" if value is None else unbroken(ends(value.low, value.high))


def estimate(value: Estimate | None, wording: Wording = PICTURES) -> str:
    """A share in per cent with its interval, as `eval.verdict.as_shown` has it: "4 % [1, 9]"."""
    if value is None:
        return MISSING
    made, few = as_shown(value)
    return f"{percent(made.value)} {ends(made.low, made.high)}" + (f", {too_few(wording)}" if few else "")


def plain(value: Estimate | None, digits: int = 3) -> str:
    """An estimate as a plain number with its interval."""
    if value is None:
        return MISSING
    if value.low is None or value.high is None:
        return numbers.plain(f"{value.value:.{digits}f}")
    shown_, low, high = (numbers.plain(f"{each:.{digits}f}") for each in (value.value, value.low, value.high))
    return f"{shown_} [{low}, {high}]"


def shown(value: Estimate | None) -> str:
    """Leakage for a card, in per cent; less than the floor is nothing, and reads as 0 %."""
    return MISSING if value is None else percent(max(0.0, value.value))


def percent(value: float) -> str:
    """A share in per cent without decimals, never broken over lines: "4 %"."""
    return unbroken(numbers.percent(value))


def p_value(test: McNemar) -> str:
    """A test's p-value: "p < 0.001", "p = 0.03"."""
    if test.p < 0.001:
        return "p < 0.001"
    return f"p = {test.p:.3f}" if test.p < 0.0995 else f"p = {test.p:.2f}"


def changed(test: McNemar) -> str:
    """What a paired test counted: "48 lost, 0 gained"."""
    return f"{test.before_only} lost, {test.after_only} gained"


def seconds(value: float) -> str:
    """A duration: "0.4 s", "12 s", "3 min 05 s"."""
    if value < 10:
        return f"{value:.1f} s"
    if value < 100:
        return f"{value:.0f} s"
    return f"{int(value) // 60} min {int(value) % 60:02d} s"


def headline(row: Row) -> str:
    """One sentence on a model: which of its concepts came out how, the best word first."""
    groups: dict[str, list[str]] = {word: [] for word in (SUPPRESSED, *WORDS)}
    for figures in row.concepts:
        groups[figures.verdict.word].append(figures.name)
    found = [(word, names) for word, names in groups.items() if names]
    if len(found) == 1 and len(row.concepts) > 1:
        return f"{found[0][0]} for all {len(row.concepts)} concepts"
    return "; ".join(f"{joined(names)} {word}" for word, names in found)


def chip_class(word: str) -> str:
    """The CSS class of a verdict word."""
    return "v-" + word.replace(" ", "-")


def bounds(evaluation: Evaluation) -> str:
    """The bounds a verdict was held against, in a sentence."""
    limits = evaluation.bounds
    return (
        f"Leakage counts as suppressed when its whole 95 % interval is at or below "
        f"{percent(limits.leakage)}, and as not erased when all of it is above. Utility is held against "
        f"{percent(limits.kept)} of the base's accuracy, and called destroyed when it is surely under "
        f"{percent(limits.destroyed)} of it."
    )


def label(name: str, evaluation: Evaluation) -> str:
    """A row's name as the page shows it: the base's own row carries the base's name."""
    return f"{short(evaluation.base)} (base)" if name == BASE else name


def short(source: str) -> str:
    """A model's source as a name: the last part of a path."""
    return source.rstrip("/").rpartition("/")[2] or source


def joined(words: Sequence[str]) -> str:
    """Words with commas and a final "and"."""
    if len(words) < 2:
        return "".join(words)
    return f"{', '.join(words[:-1])} and {words[-1]}"
