"""How a benchmark's tables and files are written: Markdown, and names of cells."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

from oubliette.core.numbers import number, plain
from oubliette.eval.statistics import t_interval

__all__ = ["NOTHING", "counted", "leaked", "markdown", "mean_of", "percent", "plain", "slug"]

NOTHING = "–"
"""What stands where there is no figure."""


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def slug(*words: str) -> str:
    """Words as a file's name: "doco-sam-car-0"."""
    text = " ".join(words).lower()
    return "-".join("".join(letter if letter.isalnum() else " " for letter in text).split())


def percent(values: Sequence[float | None]) -> str:
    """The mean of shares as whole percents; see `mean_of`."""
    return mean_of(values, number)


def leaked(values: Sequence[float | None]) -> str:
    """The mean of leakages as `percent` has it; one below the judge's floor is shown as 0."""
    return mean_of(values, lambda value: number(max(value, 0.0)))


def mean_of(values: Sequence[float | None], show: Callable[[float], str]) -> str:
    """The mean, and from two runs on the half width of its 95 % t interval; NOTHING without a value."""
    there = [value for value in values if value is not None]
    if not there:
        return NOTHING
    if len(there) == 1:
        return plain(show(there[0]))
    made = t_interval(there)
    assert made.high is not None
    return f"{plain(show(made.value))} ± {show(made.high - made.value)}"


def counted(words: Sequence[str]) -> str:
    """Words with how often each came: "erased (2), hidden (1)"; the word alone where all are the same."""
    found = Counter(words)
    return ", ".join(word if len(words) == count else f"{word} ({count})" for word, count in found.items())
