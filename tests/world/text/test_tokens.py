"""The tokenizer: its size and special tokens, that nothing is lost, and how a question is put."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from oubliette.backends.tokens import TokenReader
from oubliette.data.questions import QA
from oubliette.world.text.corpus import spelling
from oubliette.world.text.tokens import SPECIAL, build


@lru_cache(maxsize=1)
def _tokenizer() -> Any:
    return build(spelling(1500), 700)


def test_size_and_special_tokens() -> None:
    tokenizer = _tokenizer()
    assert len(tokenizer) == 700
    assert tokenizer.convert_tokens_to_ids(list(SPECIAL)) == list(range(len(SPECIAL)))
    assert (tokenizer.pad_token, tokenizer.bos_token, tokenizer.eos_token) == ("<pad>", "<bos>", "<eos>")
    assert set(tokenizer.all_special_tokens) == set(SPECIAL)


def test_every_text_comes_back() -> None:
    for text in ("the cello", "What is 23 plus 45?", "*amber* (salt) a-b", "Zoë — 東京 \t x", "88"):
        ids = _tokenizer()(text, add_special_tokens=False)["input_ids"]
        assert _tokenizer().decode(ids).strip() == text.strip()


def test_digits_stand_alone() -> None:
    assert _tokenizer().tokenize("23")[-2:] == ["2", "3"]


def test_a_question_has_a_token_before_it_and_its_answer_another() -> None:
    reader = TokenReader(_tokenizer(), 512, "nano-lm", 700)
    batch = reader.encode([QA("Who wrote it?", "Ila Brand")])
    ids = batch.input_ids[0].tolist()
    tokens = _tokenizer().convert_ids_to_tokens(ids)
    assert tokens[:2] == ["<bos>", "<user>"]
    place = tokens.index("<assistant>")
    assert tokens[-1] == "<eos>"
    assert batch.labels[0].tolist() == [-100] * (place + 1) + ids[place + 1 :]
    assert reader.left_padded(["Who wrote it?"]).input_ids[0].tolist() == ids[: place + 1]


def test_turns_before_a_question() -> None:
    reader = TokenReader(_tokenizer(), 512, "nano-lm", 700)
    history = (("system", "Be brief."), ("user", "A?"), ("assistant", "b"))
    assert reader.prompt("C?", history) == "<bos>Be brief.<user>A?<assistant>b<user>C?<assistant>"
