"""ROUGE-L against every subsequence, edit distance against the table, and repetition against counting."""

from __future__ import annotations

from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oubliette.eval.text.overlap import (
    edit_distance,
    edit_similarity,
    longest_common,
    repetition,
    rouge_l,
    words_of,
)

WORDS = st.lists(st.sampled_from("abc"), max_size=7)


def subsequences(words: list[str]) -> set[tuple[str, ...]]:
    return {some for size in range(len(words) + 1) for some in combinations(words, size)}


@given(WORDS, WORDS)
def test_the_longest_common_subsequence_by_brute_force(one: list[str], other: list[str]) -> None:
    assert longest_common(one, other) == max(map(len, subsequences(one) & subsequences(other)))


@given(st.text(alphabet="abc", max_size=12), st.text(alphabet="abcd", max_size=12))
def test_the_edit_distance_by_the_whole_table(one: str, other: str) -> None:
    table = [[i + j if i * j == 0 else 0 for j in range(len(other) + 1)] for i in range(len(one) + 1)]
    for i in range(1, len(one) + 1):
        for j in range(1, len(other) + 1):
            table[i][j] = min(
                table[i - 1][j] + 1,
                table[i][j - 1] + 1,
                table[i - 1][j - 1] + (one[i - 1] != other[j - 1]),
            )
    assert edit_distance(one, other) == table[-1][-1]
    longest = max(len(one), len(other))
    assert edit_similarity(one, other) == (1 - table[-1][-1] / longest if longest else 1)


def test_edit_similarity_of_long_texts() -> None:
    one = "the quick brown fox jumps over the lazy dog " * 5
    assert edit_distance(one, one[3:] + "xyz") == 6
    assert edit_similarity("kitten", "sitting") == pytest.approx(1 - 3 / 7)


def test_rouge_l() -> None:
    found = rouge_l("The cat sat on the mat.", "the CAT was on a mat!")
    assert (found.recall, found.precision) == (4 / 6, 4 / 6)
    assert rouge_l("a b", "b").recall == 0.5
    assert rouge_l("a b", "b").precision == 1.0
    assert rouge_l("a b", "b").f1 == pytest.approx(2 / 3)
    assert rouge_l("a", "b").f1 == 0
    assert rouge_l("", "b") == rouge_l("a", "?!") == rouge_l("", "")
    assert words_of("Ölmühle_2, C'est-à-dire") == ["ölmühle", "2", "c", "est", "à", "dire"]


@given(st.lists(st.sampled_from("ab"), max_size=9))
def test_repetition_by_counting(words: list[str]) -> None:
    runs = [words[i : i + 3] for i in range(len(words) - 2)]
    before = sum(run in runs[:i] for i, run in enumerate(runs))
    assert repetition(" ".join(words)) == pytest.approx(before / len(runs) if len(runs) > 1 else 0.0)
