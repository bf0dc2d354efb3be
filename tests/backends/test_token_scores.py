"""Token scores against loops over the logits, whatever the chunk and the batch."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

import tiny_language
from oubliette.backends import open_model
from oubliette.backends.token_scores import score_tokens
from oubliette.data.questions import QA

ROWS = [QA(*pair) for pair in tiny_language.FORGET + tiny_language.RETAIN] + [QA("", "The sky is blue.")]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return open_model(tiny_language.save(tmp_path_factory.mktemp("scores") / "model", "llama"))


def by_loops(model: Any, row: QA) -> list[tuple[float, bool, float, float]]:
    batch = model.encode([row])
    logits = model.predict(batch)[0].double()
    found = []
    for place in range(1, batch.input_ids.shape[1]):
        token = int(batch.labels[0, place])
        if token == -100:
            continue
        row_logits = logits[place - 1]
        total = math.log(sum(math.exp(float(value)) for value in row_logits))
        log_p = [float(value) - total for value in row_logits]
        mean = sum(math.exp(value) * value for value in log_p)
        variance = sum(math.exp(value) * value * value for value in log_p) - mean * mean
        found.append((log_p[token], max(log_p) == log_p[token], mean, variance))
    return found


def test_scores_are_those_of_loops_over_the_logits(model: Any) -> None:
    for row, scores in zip(ROWS, model.scores(ROWS, batch=2), strict=True):
        expected = by_loops(model, row)
        assert len(scores.log_p) == len(expected) == int(model.encode([row]).counts()[0])
        for own, theirs in zip(
            zip(scores.log_p, scores.right, scores.mean, scores.variance, strict=True), expected, strict=True
        ):
            assert own[1] == theirs[1]
            assert [own[0], own[2], own[3]] == pytest.approx([theirs[0], *theirs[2:]], abs=2e-5)
        assert scores.ended
        assert np.array_equal(scores.answer.log_p, scores.log_p[:-1])


def test_neither_chunk_nor_batch_changes_what_is_said(model: Any) -> None:
    batch = model.encode(ROWS)
    logits = model.predict(batch)
    whole = score_tokens(logits, batch.labels, model.reader.end)
    for chunk in (1, 3, 7):
        for one, other in zip(score_tokens(logits, batch.labels, 0, chunk=chunk), whole, strict=True):
            assert np.array_equal(one.log_p, other.log_p)
            assert np.allclose(one.variance, other.variance, atol=1e-6)
    for one, other in zip(model.scores(ROWS, batch=1), model.scores(ROWS), strict=True):
        assert np.allclose(one.log_p, other.log_p, atol=1e-5)


def test_a_token_that_cannot_be_leaves_the_moments_finite() -> None:
    logits = torch.tensor([[[0.0, -math.inf, 1.0], [0.0, 0.0, 0.0]]])
    (scores,) = score_tokens(logits, torch.tensor([[-100, 1]]), None)
    assert scores.log_p[0] == -math.inf
    share = 1 / (1 + math.e)
    expected = share * math.log(share) + (1 - share) * math.log(1 - share)
    assert scores.mean[0] == pytest.approx(expected, abs=1e-6)
    assert scores.variance[0] == pytest.approx(share * (1 - share), abs=1e-6)  # of two values, 1 apart
    assert not scores.ended
    (alone,) = score_tokens(logits, torch.tensor([[-100, 2]]), 2)
    assert alone.ended
    assert len(alone.answer.log_p) == 1


def test_the_end_of_the_text_is_left_out_of_every_array() -> None:
    from oubliette.backends.token_scores import TokenScores

    arrays = [np.arange(3.0) + shift for shift in range(4)]
    scores = TokenScores(arrays[0], np.array([True, False, False]), arrays[2], arrays[3], True)
    cut = scores.answer
    assert cut.log_p.tolist() == [0, 1]
    assert cut.right.tolist() == [True, False]
    assert (cut.mean.tolist(), cut.variance.tolist()) == ([2, 3], [3, 4])
    assert cut.answer is cut


def test_only_chunks_are_held_in_full_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    ask = torch.Tensor.float

    def float_(self: torch.Tensor) -> torch.Tensor:
        sizes.append(self.numel())
        return ask(self)

    monkeypatch.setattr(torch.Tensor, "float", float_)
    logits = torch.randn(4, 50, 32, dtype=torch.bfloat16)
    score_tokens(logits, torch.zeros(4, 50, dtype=torch.long), None, chunk=10)
    assert max(sizes) == 10 * 32
