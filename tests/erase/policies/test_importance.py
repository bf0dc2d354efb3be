"""Importance against finite differences, and the thirds against numpy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import tiny_language
from oubliette.backends.language import LanguageBackend
from oubliette.data.questions import QA
from oubliette.erase.policies.importance import importance, level_of, tertiles


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> LanguageBackend:
    folder: Path = tiny_language.save(tmp_path_factory.mktemp("lm") / "base", "llama")
    return LanguageBackend.open(folder, device="cpu")


def test_it_is_the_norm_of_the_gradient_at_the_embeddings(model: LanguageBackend) -> None:
    text = "Ada Marlow painted"
    found = importance(model, text)
    ids = torch.tensor([[*model.tokenizer(text)["input_ids"], model.reader.end]])
    network = model.model.double()
    try:
        start = network.get_input_embeddings()(ids).detach()

        def loss(embeddings: torch.Tensor) -> float:
            with torch.no_grad():
                logits = network(inputs_embeds=embeddings).logits[0, :-1]
            return -float(torch.log_softmax(logits, 1)[range(ids.shape[1] - 1), ids[0, 1:]].mean())

        total, step = 0.0, 1e-5
        for place in range(start.numel()):
            moved = torch.zeros(start.numel(), dtype=torch.float64)
            moved[place] = step
            moved = moved.view_as(start)
            total += ((loss(start + moved) - loss(start - moved)) / (2 * step)) ** 2
    finally:
        model.model.float()
    assert found == pytest.approx(total**0.5, rel=1e-3)


def test_it_leaves_no_gradient_and_reads_no_more_than_fits(model: LanguageBackend) -> None:
    long = "Ada Marlow painted the red door. " * 20
    assert len(model.tokenizer(long)["input_ids"]) > model.reader.max_length
    assert importance(model, long) > 0
    assert all(parameter.grad is None for parameter in model.model.parameters())
    with pytest.raises(Exception, match="tokens long"):
        model.encode([QA("", long)])


def test_levels_begin_at_their_bounds() -> None:
    assert [level_of(value, (6.0, 12.0)) for value in (0, 5.99, 6, 11.9, 12, 99)] == [
        "low",
        "low",
        "middle",
        "middle",
        "high",
        "high",
    ]
    assert level_of(99, None) == "middle"


def test_thirds_are_numpys() -> None:
    seen = [5.0, 1.0, 4.0, 2.0, 9.0]
    assert tertiles(seen) == pytest.approx(tuple(np.quantile(seen, [1 / 3, 2 / 3])))
    assert tertiles(seen[:2]) is None
