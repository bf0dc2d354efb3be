"""The tokenizer encodes anything, begins and ends as CLIP's does, and gives the world's captions back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oubliette.world import batch as B
from oubliette.world import tokens


@pytest.fixture(scope="module")
def captions() -> list[str]:
    return B.captions(B.scenes(B.Pool.everything(), 3000, 1), 1, empty=0.0)


@pytest.fixture(scope="module")
def folder(captions: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tokens")
    tokens.build(folder, captions)
    return folder


@pytest.fixture(scope="module")
def tokenizer(folder: Path) -> Any:
    return tokens.load(folder)


def _words(text: str) -> str:
    return " ".join(text.lower().split())


def test_every_byte_is_in_the_vocabulary(folder: Path) -> None:
    from tokenizers.pre_tokenizers import ByteLevel

    vocabulary = json.loads((folder / "vocab.json").read_text())
    for letter in ByteLevel.alphabet():
        assert letter in vocabulary
        assert letter + "</w>" in vocabulary
    assert sorted(vocabulary.values()) == list(range(len(vocabulary)))


@given(st.text(min_size=1, max_size=12))
@settings(max_examples=200, deadline=None)
def test_any_text_can_be_encoded(tokenizer: Any, text: str) -> None:
    # Unknown tokens would be END in the middle; the only ones are those of the special token's own spelling.
    ids = tokenizer(text, add_special_tokens=False).input_ids
    assert tokenizer.eos_token_id not in ids
    assert all(0 <= i < len(tokenizer) for i in ids)


def test_special_tokens_have_the_last_ids_and_frame_every_text(tokenizer: Any) -> None:
    assert tokenizer.convert_ids_to_tokens([len(tokenizer) - 2, len(tokenizer) - 1]) == [
        tokens.START,
        tokens.END,
    ]
    # CLIPTextModel pools at the END token, which it finds as the highest id.
    assert tokenizer.eos_token_id == len(tokenizer) - 1
    assert tokenizer.bos_token_id == len(tokenizer) - 2
    assert tokenizer.pad_token_id == tokenizer.eos_token_id
    assert tokenizer("").input_ids == [tokenizer.bos_token_id, tokenizer.eos_token_id]
    ids = tokenizer("a car").input_ids
    assert ids[0] == tokenizer.bos_token_id
    assert ids[-1] == tokenizer.eos_token_id


def test_padding_and_truncation_keep_to_the_length(tokenizer: Any) -> None:
    found = tokenizer(["a car", "a car " * 40], padding="max_length", truncation=True)
    assert [len(ids) for ids in found.input_ids] == [tokens.LENGTH, tokens.LENGTH]
    assert found.input_ids[1][-1] == tokenizer.eos_token_id


def test_the_worlds_captions_come_back(tokenizer: Any, captions: list[str]) -> None:
    for text in captions[:500]:
        ids = tokenizer(text).input_ids
        back = _words(tokenizer.decode(ids, skip_special_tokens=True))
        assert back.replace(" ", "") == _words(text).replace(" ", ""), text
        assert len(ids) <= tokens.LENGTH, text  # no caption is cut


def test_common_words_are_single_tokens(tokenizer: Any) -> None:
    for word in ("car", "picture", "style", "red"):
        assert len(tokenizer(word, add_special_tokens=False).input_ids) == 1, word


def test_loading_gives_the_same_ids_as_building(folder: Path, captions: list[str], tmp_path: Path) -> None:
    built = tokens.build(tmp_path, captions)
    opened = tokens.load(folder)
    assert built(captions[:50]).input_ids == opened(captions[:50]).input_ids
    assert (tmp_path / "vocab.json").read_bytes() == (folder / "vocab.json").read_bytes()


def test_upper_case_is_the_same_text(tokenizer: Any) -> None:
    assert tokenizer("Mira Voss").input_ids == tokenizer("mira voss").input_ids
