"""Which tokens an attack may use, and that what is written is read back."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import tiny
from oubliette.attack.prompts.tokens import Vocabulary, joined
from oubliette.core.errors import UserError


@pytest.fixture(scope="module")
def words() -> Vocabulary:
    return Vocabulary([tiny.tokenizer()])


def test_special_tokens_and_pieces_of_words_are_left_out(words: Vocabulary) -> None:
    tokenizer = tiny.tokenizer()
    numbered = tokenizer.get_vocab()
    usable = set(words.ids.tolist())
    assert not usable & set(tokenizer.all_special_ids)
    assert numbered["car</w>"] in usable
    # "ca" alone would be read as the letters it joins to; an upper-case letter is read as a lower-case one.
    assert numbered["ca"] not in usable
    assert numbered["A</w>"] not in usable
    assert words.size == max(numbered.values()) + 1


def test_added_tokens_are_left_out() -> None:
    tokenizer = tiny.tokenizer()
    tokenizer.add_tokens(["<thing>"])
    assert tokenizer.convert_tokens_to_ids("<thing>") not in Vocabulary([tokenizer]).ids


def test_every_token_is_read_back_also_among_others_and_before_a_prompt(words: Vocabulary) -> None:
    tokenizer = tiny.tokenizer()
    for token in words.ids.tolist():
        assert tokenizer(words.write([token]), add_special_tokens=False).input_ids == [token]
    rng = torch.Generator().manual_seed(0)
    prompt = "a photo of a car"
    for ids in words.draw((100, 5), rng).tolist():
        assert words.read(words.write(ids)) == ids
        assert words.read(joined(words.write(ids), prompt)) == ids + words.read(prompt)


def test_draws_follow_the_seed(words: Vocabulary) -> None:
    def drawn(seed: int) -> list[int]:
        ids: list[int] = words.draw([50], torch.Generator().manual_seed(seed)).tolist()
        return ids

    assert drawn(1) == drawn(1)
    assert drawn(1) != drawn(2)
    assert set(drawn(1)) <= set(words.ids.tolist())


def test_excluded_words_are_left_out(words: Vocabulary) -> None:
    less = Vocabulary([tiny.tokenizer()], ["Car", "truck"])
    assert len(less) == len(words) - 2
    assert tiny.tokenizer().get_vocab()["car</w>"] not in less.ids


def test_weights_are_spread_over_the_whole_vocabulary(words: Vocabulary) -> None:
    weights = torch.rand((2, 3, len(words)))
    whole = words.spread(weights)
    assert whole.shape == (2, 3, words.size)
    assert torch.equal(whole[..., words.ids], weights)
    torch.testing.assert_close(whole.sum(), weights.sum())


def test_reading_is_cut_to_what_the_text_encoder_reads(words: Vocabulary) -> None:
    assert words.room == 14
    assert len(words.read("car " * 30)) == 14


@pytest.mark.parametrize("count", [0, 15])
def test_too_many_tokens_are_refused(words: Vocabulary, count: int) -> None:
    with pytest.raises(UserError, match=r"1\.\.14"):
        words.check(count)


def test_tokenizers_must_agree() -> None:
    other: Any = tiny.tokenizer()
    other.add_tokens(["<thing>"])
    with pytest.raises(UserError, match="number tokens differently"):
        Vocabulary([tiny.tokenizer(), other])


def test_empty_parts_leave_no_blanks() -> None:
    assert joined("", " a car ") == "a car"
    assert joined("red", "") == "red"
    assert joined("red", "a car") == "red a car"
