"""What a language model is asked within: its positions, its vocabulary, and where a text begins."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import BloomConfig, BloomForCausalLM

import tiny_language
from oubliette.backends import open_model
from oubliette.backends.language import LanguageBackend
from oubliette.core.errors import UserError
from oubliette.data.questions import QA
from oubliette.workflows.sample import sample


@pytest.fixture(scope="module", params=tiny_language.KINDS)
def folder(request: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model of every kind; read only."""
    return tiny_language.save(tmp_path_factory.mktemp("context") / request.param, request.param)


def test_positions_and_vocabulary_are_the_language_models_own(folder: Path) -> None:
    model: Any = open_model(folder, device="cpu")
    model.tokenizer.model_max_length = 10**30  # what a tokenizer says that knows no limit
    again = LanguageBackend(model.model, model.tokenizer)
    assert again.reader.max_length == 64
    assert again.reader.vocabulary == len(model.model.get_input_embeddings().weight)
    assert again.rehearse(2).shape[:2] == (2, 64)


def test_a_model_without_a_limit_of_its_own_has_its_tokenizers() -> None:
    words = tiny_language.tokenizer()
    made = BloomForCausalLM(BloomConfig(vocab_size=len(words), hidden_size=32, n_layer=1, n_head=4))
    assert LanguageBackend(made, words).reader.max_length == words.model_max_length
    words.model_max_length = 10**30
    assert LanguageBackend(made, words).reader.max_length > 10**6  # and not a made-up 1024


def test_answers_end_where_the_context_does(folder: Path) -> None:
    model: Any = open_model(folder, device="cpu")
    model.model.generation_config.eos_token_id = None  # it would go on
    prompts = ["Who?", "What colour is the sky over the town of Quill?"]
    found = model.respond(prompts, max_new_tokens=500)
    assert found == [model.respond([prompt], max_new_tokens=500)[0] for prompt in prompts]
    full = "?" * 64
    assert len(model.tokenizer(full).input_ids) == 64
    assert model.respond([full], max_new_tokens=500) == model.respond([full], max_new_tokens=1)


def test_what_is_longer_than_the_context_is_refused_and_not_cut(folder: Path) -> None:
    with pytest.raises(UserError, match=r"the prompt '\?+' is 65 tokens long .* reads 64; shorten it"):
        sample(folder, ["Who?", "?" * 65])


def test_a_prompt_that_its_template_makes_too_long_is_refused(tmp_path: Path) -> None:
    model: Any = open_model(tiny_language.save(tmp_path / "chat", "gpt2", chat=True), device="cpu")
    question = "?" * 60
    assert len(model.tokenizer(question).input_ids) <= 64
    with pytest.raises(UserError, match="tokens long"):
        model.respond([question])


def test_an_empty_prompt_begins_with_the_start_or_the_end_token(folder: Path) -> None:
    model: Any = open_model(folder, device="cpu")
    model.model.generation_config.eos_token_id = None
    ids = [0]  # the end-of-text token: there is no other
    for _ in range(4):
        ids.append(int(model.model(input_ids=torch.tensor([ids])).logits[0, -1].argmax()))
    said = model.tokenizer.decode(ids[1:], skip_special_tokens=True)
    assert model.respond(["", "Who?"], max_new_tokens=4)[0] == said
    model.tokenizer.bos_token = "?"
    assert model.reader.left_padded([""]).input_ids.tolist() == [[model.tokenizer.bos_token_id]]


def test_an_empty_prompt_without_either_is_refused(tmp_path: Path) -> None:
    model: Any = open_model(tiny_language.save(tmp_path / "m", "qwen2"), device="cpu")
    model.tokenizer.eos_token = None
    with pytest.raises(UserError, match="neither a start nor an end token"):
        LanguageBackend(model.model, model.tokenizer).respond([""])


def test_a_pad_token_that_the_model_lacks_is_not_used(folder: Path) -> None:
    model: Any = open_model(folder, device="cpu")
    plain = model.respond(["Who?", "What colour is the sky?"], max_new_tokens=4)
    rows = [QA(*pair) for pair in tiny_language.FORGET]
    model.tokenizer.add_special_tokens({"pad_token": "[PAD]"})  # and the model was not resized
    assert model.tokenizer.pad_token_id >= model.reader.vocabulary
    padded = LanguageBackend(model.model, model.tokenizer)
    batch = padded.encode(rows)
    assert int(batch.input_ids.max()) < padded.reader.vocabulary
    assert torch.isfinite(padded.log_likelihood(padded.predict(batch), batch)).all()
    assert padded.respond(["Who?", "What colour is the sky?"], max_new_tokens=4) == plain


def test_a_word_that_the_model_lacks_is_named(folder: Path) -> None:
    model: Any = open_model(folder, device="cpu")
    model.tokenizer.add_tokens(["<|new|>"])
    with pytest.raises(UserError, match=r"gives token \d+ \('<\|new\|>'\), and the model has embeddings"):
        model.respond(["Who <|new|>?"])
    with pytest.raises(UserError, match=r"<\|new\|>"):
        model.encode([QA("Who?", "me <|new|>")])
