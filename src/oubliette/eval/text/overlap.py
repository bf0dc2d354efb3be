"""How much of one text stands in another: ROUGE-L, edit similarity, and how much a text repeats itself."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = [
    "Overlap",
    "edit_distance",
    "edit_similarity",
    "longest_common",
    "repetition",
    "rouge_l",
    "words_of",
]


@dataclass(frozen=True)
class Overlap:
    """ROUGE-L (Lin 2004): the share of the reference's words, and of the said ones, that stand in both in
    their order."""

    recall: float
    precision: float

    @property
    def f1(self) -> float:
        """The harmonic mean; 0 where nothing is shared."""
        total = self.recall + self.precision
        return 2 * self.recall * self.precision / total if total else 0.0


def words_of(text: str) -> list[str]:
    """Runs of letters and digits in lower case, as rouge-score has them, in any script; not stemmed."""
    return re.findall(r"[^\W_]+", text.lower())


def rouge_l(reference: str, said: str) -> Overlap:
    """ROUGE-L of what was said; 0 where either has no word."""
    right, found = words_of(reference), words_of(said)
    if not right or not found:
        return Overlap(0.0, 0.0)
    common = longest_common(right, found)
    return Overlap(common / len(right), common / len(found))


def longest_common(one: Sequence[str], other: Sequence[str]) -> int:
    """The length of the longest common subsequence."""
    row = [0] * (len(other) + 1)
    for word in one:
        before = 0
        for index, found in enumerate(other):
            before, row[index + 1] = (
                row[index + 1],
                before + 1 if word == found else max(row[index + 1], row[index]),
            )
    return row[-1]


def edit_similarity(one: str, other: str) -> float:
    """1 - Levenshtein distance / the longer one's length, by characters; 1 for two empty texts."""
    return 1 - edit_distance(one, other) / max(len(one), len(other), 1)


def edit_distance(one: str, other: str) -> int:
    """Levenshtein's distance by characters: insertions, deletions and replacements.

    A column of differences is held in the bits of two whole numbers (Myers, J. ACM 1999; Hyyrö 2003), so that
    a pair costs as many steps as the second text has characters.
    """
    if not one:
        return len(other)
    at: dict[str, int] = {}
    for place, letter in enumerate(one):
        at[letter] = at.get(letter, 0) | 1 << place
    every = (1 << len(one)) - 1
    last, distance = 1 << (len(one) - 1), len(one)
    rises, falls = every, 0  # where a cell is one more, one less than that above it
    for letter in other:
        equal = at.get(letter, 0) | falls
        diagonal = (((equal & rises) + rises) ^ rises) | equal
        right_up, right_down = falls | ~(diagonal | rises), rises & diagonal
        distance += bool(right_up & last) - bool(right_down & last)
        right_up, right_down = (right_up << 1 | 1) & every, right_down << 1
        rises, falls = (right_down | ~(diagonal | right_up)) & every, right_up & diagonal
    return distance


def repetition(text: str, n: int = 3) -> float:
    """The share of a text's runs of `n` words that were there before (seq-rep-n, Welleck et al. 2020,
    1908.04319); 0 where it has fewer than two."""
    said = words_of(text)
    runs = [tuple(said[index : index + n]) for index in range(len(said) - n + 1)]
    return 1 - len(set(runs)) / len(runs) if len(runs) > 1 else 0.0
