"""Embeddings before a prompt are read as the tokens that they belong to would be, by any model."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import tiny_language
from oubliette.backends.front import put_before
from oubliette.backends.language import LanguageBackend
from oubliette.backends.tokens import IGNORED
from oubliette.core.errors import UserError
from oubliette.data.questions import QA

ROWS = [QA(*pair) for pair in tiny_language.FORGET + tiny_language.RETAIN]
ASKED = [row.question for row in ROWS]


def opened(kind: str, *, chat: bool = False) -> Any:
    words = tiny_language.tokenizer(chat=chat)
    return LanguageBackend(tiny_language.model(kind, len(words)), words)


def embedded(model: Any, text: str) -> torch.Tensor:
    """The embeddings of a text's tokens, (k, width)."""
    return model.embed(model.reader.left_padded([text]))[0]


@pytest.mark.parametrize("kind", tiny_language.KINDS)
def test_embeddings_of_text_are_that_text(kind: str) -> None:
    model = opened(kind)
    front = embedded(model, "Paris")
    # Byte-level tokens do not cross the line's end here, so both are the same tokens in the same order.
    joined = [f"Paris{question}" for question in ASKED]
    for text, question in zip(joined, ASKED, strict=True):
        ids = model.reader.left_padded([text]).input_ids[0]
        apart = [
            *model.reader.left_padded(["Paris"]).input_ids[0],
            *model.reader.left_padded([question]).input_ids[0],
        ]
        assert ids.tolist() == [int(token) for token in apart]
    assert model.respond(ASKED, 6, front=front) == model.respond(joined, 6)


@pytest.mark.parametrize("left", [True, False])
def test_the_front_stands_before_the_tokens_and_does_not_count(left: bool) -> None:
    model = opened("llama")
    batch = model.reader.left_padded(ASKED) if left else model.encode(ROWS)
    front = torch.randn(3, 32, requires_grad=True)
    made, embeddings = put_before(model, batch, front)
    assert made.input_ids.shape[1] == embeddings.shape[1] == batch.input_ids.shape[1] + 3
    assert made.attention_mask.sum(dim=1).tolist() == (batch.attention_mask.sum(dim=1) + 3).tolist()
    plain = model.embed(batch)
    for row in range(len(ROWS)):
        real = batch.attention_mask[row].bool()
        own = embeddings[row][made.attention_mask[row].bool()]
        assert torch.equal(own, torch.cat([front, plain[row][real]]))
        counted = made.labels[row] != IGNORED
        assert made.labels[row][counted].tolist() == batch.labels[row][batch.labels[row] != IGNORED].tolist()
        assert made.input_ids[row][counted].tolist() == made.labels[row][counted].tolist()
    embeddings.sum().backward()
    assert torch.equal(front.grad, torch.full((3, 32), float(len(ROWS))))


@pytest.mark.parametrize("chat", [True, False])
def test_an_opening_is_the_beginning_of_the_answer_and_not_given_again(chat: bool) -> None:
    model = opened("llama", chat=chat)
    for question in ASKED:
        glue = "" if chat else " "
        whole = model.reader.prompt(question) + glue + "it is"
        ids = model.tokenizer(whole, add_special_tokens=not chat).input_ids
        assert model.reader.left_padded([question], "it is").input_ids[0].tolist() == ids
        made = model.model.generate(torch.tensor([ids]), max_new_tokens=5, do_sample=False, pad_token_id=0)
        said = model.tokenizer.decode(made[0, len(ids) :], skip_special_tokens=True)
        assert model.respond([question], 5, opening="it is") == [said]


def test_a_front_takes_its_room_out_of_the_context() -> None:
    model = opened("gpt2")
    length = model.reader.left_padded(["Who?"]).input_ids.shape[1]
    # 64 positions: prompt, front, and one more token than is read.
    front = torch.zeros(64 - length, 32)
    said = model.respond(["Who?"], 64, front=front)
    assert len(model.tokenizer(said).input_ids[0]) <= 1
    with pytest.raises(UserError, match="embeddings before it are longer"):
        model.respond(["Who?"], 64, front=torch.zeros(65 - length, 32))
    # Each prompt of several is continued as far as it would be alone.
    few = torch.zeros(40, 32)
    assert model.respond(ASKED, 30, front=few) == [model.respond([one], 30, front=few)[0] for one in ASKED]
