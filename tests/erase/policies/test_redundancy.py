"""The filter against a loop over chunks, and what its encoders give."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

import tiny_language
from oubliette.backends.language import LanguageBackend
from oubliette.core.errors import UserError
from oubliette.data.questions import QA
from oubliette.erase.policies.redundancy import (
    RedundancyFilter,
    chunks_of,
    encoder_in,
    mean_embeddings,
    text_losses,
)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> LanguageBackend:
    folder = tiny_language.save(tmp_path_factory.mktemp("lm") / "base", "llama")
    return LanguageBackend.open(folder, device="cpu")


def letters(texts: list[str]) -> Tensor:
    """Counts of the letters a to e."""
    return torch.tensor([[float(text.count(letter)) for letter in "abcde"] for text in texts])


def looped(text: str, length: int, memory: list[Tensor], similar: float, matters: float, losses) -> str:
    """The sheet's rule, chunk by chunk."""
    chunks = [text[start : start + length] for start in range(0, len(text), length)]
    kept = []
    for chunk in chunks:
        own = letters([chunk])[0]
        near = max((float(own @ m / own.norm() / m.norm()) for m in memory), default=-1.0)
        if near < similar:
            kept.append(chunk)
            continue
        rest = "".join(other for other in chunks if other != chunk)
        if abs(float(losses([text])[0]) - float(losses([rest])[0])) > matters:
            kept.append(chunk)
    return "".join(kept)


def test_chunks_cover_a_stripped_text() -> None:
    assert chunks_of("  abcdefgh ", 3) == ["abc", "def", "gh"]
    assert chunks_of(" \n", 3) == []


@pytest.mark.parametrize("matters", [0.0, 0.05, 0.2, 9.0])
@pytest.mark.parametrize("similar", [0.5, 0.9])
def test_it_is_the_rule_chunk_by_chunk(matters: float, similar: float) -> None:
    def losses(texts) -> Tensor:
        return torch.tensor([len(set(text)) + 0.01 * len(text) for text in texts])

    text = "aabbccddaabbeeeeabde"
    held = RedundancyFilter(4, similar, matters)
    held.remember(torch.nn.functional.normalize(letters(["aabb", "eeee"]), dim=1))
    found = held.keep(text, letters, losses)
    memory = list(letters(["aabb", "eeee"]))
    assert found.text == looped(text, 4, memory, similar, matters, losses)
    assert found.facts["kept"] == len(found.embeddings) == len(found.text) // 4
    assert held.memory is not None
    assert len(held.memory) == 2  # what is forgotten is remembered when it is


def test_all_stays_while_nothing_is_remembered() -> None:
    held = RedundancyFilter(4, -1.0, 100.0)
    found = held.keep("aabbaabb", letters, lambda texts: torch.zeros(len(texts)))
    assert (found.text, found.facts) == ("aabbaabb", {"chunks": 2, "doubted": 0, "kept": 2})
    assert torch.allclose(found.embeddings.norm(dim=1), torch.ones(2))


def test_what_says_the_same_again_goes_whole() -> None:
    held = RedundancyFilter(4, 0.9, 0.2)
    held.remember(held.keep("aabbccdd", letters, lambda texts: torch.zeros(len(texts))).embeddings)
    again = held.keep("aabbccdd", letters, lambda texts: torch.zeros(len(texts)))
    assert (again.text, again.facts["doubted"]) == ("", 2)


def test_a_text_of_one_chunk_goes_where_that_chunk_is_remembered_and_no_other() -> None:
    held = RedundancyFilter(4, 0.5, 0.2)
    held.remember(torch.nn.functional.normalize(letters(["aabb"]), dim=1))

    def unread(texts) -> Tensor:
        assert len(texts) == 1
        return torch.zeros(1)

    assert held.keep("aabbaabb", letters, unread).text == ""
    assert held.keep("aaab", letters, unread).text == "aaab"


def test_losses_are_the_mean_over_a_texts_tokens(model: LanguageBackend) -> None:
    texts = ["Ada Marlow painted the red door", "Paris", "it is blue " * 40]
    found = text_losses(model, texts, longest=20)
    for text, loss in zip(texts, found, strict=True):
        ids = [*model.tokenizer(text)["input_ids"][:20], model.reader.end]
        with torch.no_grad():
            logits = model.model(torch.tensor([ids])).logits[0, :-1].double()
        expected = -torch.log_softmax(logits, 1)[range(len(ids) - 1), ids[1:]].mean()
        assert float(loss) == pytest.approx(float(expected), rel=1e-5)
    alone = text_losses(model, texts[:1], longest=20)
    assert float(alone[0]) == pytest.approx(float(found[0]), rel=1e-5)


def test_the_models_own_embeddings_are_means_over_tokens(model: LanguageBackend) -> None:
    found = mean_embeddings(model)(["Ada Marlow", "Paris"])
    table = model.model.get_input_embeddings().weight
    for text, row in zip(["Ada Marlow", "Paris"], found, strict=True):
        assert torch.allclose(row, table[model.tokenizer(text)["input_ids"]].mean(dim=0))


def encoder(folder: Path) -> Path:
    """A tiny BERT with a pooled output."""
    from transformers import BertConfig, BertModel

    words = tiny_language.tokenizer()
    config = BertConfig(
        vocab_size=len(words),
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=64,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        BertModel(config).save_pretrained(folder)
    words.save_pretrained(folder)
    return folder


def test_an_encoders_means_leave_padding_out(tmp_path: Path) -> None:
    folder = encoder(tmp_path / "bert")
    mean = encoder_in(folder, "cpu", "mean", None)
    texts = ["Ada", "Where was Ada Marlow born?"]
    together, alone = mean(texts), torch.cat([mean([text]) for text in texts])
    assert torch.allclose(together, alone, atol=1e-5)
    pooled = encoder_in(folder, "cpu", "pooler", None)(texts)
    assert pooled.shape == together.shape
    assert not torch.allclose(pooled, together)
    cut = encoder_in(folder, "cpu", "mean", 2)
    long = ["Ada Marlow was born in the town of Quill", "Ada Marlow painted the red door"]
    assert torch.allclose(*cut(long), atol=1e-6) == torch.equal(*first_two(folder, long))


def first_two(folder: Path, texts: list[str]) -> tuple[Tensor, Tensor]:
    from transformers import AutoTokenizer

    words = AutoTokenizer.from_pretrained(folder)
    one, two = (torch.tensor(words(text)["input_ids"][:2]) for text in texts)
    return one, two


def test_a_folder_that_holds_no_encoder_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nowhere: no such folder; expected a folder of transformers"):
        encoder_in(tmp_path / "nowhere", "cpu", "mean", None)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"empty: no config\.json in it"):
        encoder_in(tmp_path / "empty", "cpu", "mean", None)
    (tmp_path / "empty" / "config.json").write_text("{}")
    with pytest.raises(UserError, match="empty: cannot be opened as an encoder") as caught:
        encoder_in(tmp_path / "empty", "cpu", "mean", None)
    assert "\n" not in str(caught.value)


def test_an_encoder_without_a_pooled_output_says_so(tmp_path: Path) -> None:
    folder = tiny_language.save(tmp_path / "lm", "gpt2")
    pooled = encoder_in(folder, "cpu", "pooler", None)
    with pytest.raises(UserError, match=r"has no pooled output; policy\.pooling=mean"):
        pooled(["Ada"])
    assert encoder_in(folder, "cpu", "mean", None)(["Ada", "Ada Marlow"]).shape == (2, 32)


def test_plain_rows_are_read_whole(model: LanguageBackend) -> None:
    batch = model.encode([QA("", "Paris")])
    assert int(batch.counts()[0]) == batch.input_ids.shape[1] - 1
