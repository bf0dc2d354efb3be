"""AltPO: the alternatives are the model's own or a file's, never the true answer; the loss is DPO's."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch

import tiny_language
from oubliette.backends.language import LanguageBackend
from oubliette.core.errors import UserError
from oubliette.erase.language.altpo import AltPO
from oubliette.erase.language.prepare import prepare
from oubliette.erase.request import ErasureRequest
from oubliette.train.scope import select
from oubliette.train.weights import Weights


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("altpo")
    tiny_language.save(root / "llama", "llama")
    tiny_language.write_rows(root / "forget.jsonl", tiny_language.FORGET)
    tiny_language.write_rows(root / "retain.jsonl", tiny_language.RETAIN)
    return root


def made(root: Path, seed: int = 0, sources: dict[str, Path] | None = None, **options: Any) -> Any:
    model = LanguageBackend.open(root / "llama", device="cpu")
    request = ErasureRequest(
        forget=root / "forget.jsonl", retain_file=root / "retain.jsonl", sources=sources or {}
    )
    objective = AltPO(AltPO.Options(**{"count": 3, "tokens": 5, **options}), request)
    objective.setup(model, prepare(model, request, seed=seed), Weights(select(model, "full")), seed)
    return objective


def test_the_models_own_are_sampled_with_the_seed(root: Path) -> None:
    one, same, other = made(root), made(root), made(root, seed=1)
    assert one.alternatives == same.alternatives
    assert one.alternatives != other.alternatives
    for row in one.data.forget_rows:
        assert 1 <= len(one.alternatives[row.question]) <= 3
        assert row.answer not in one.alternatives[row.question]


def test_a_file_may_give_them_and_the_true_answer_is_none(root: Path, tmp_path: Path) -> None:
    rows = [
        (question, answer)
        for question, right in tiny_language.FORGET
        for answer in ("nothing like it", right)
    ]
    tiny_language.write_rows(tmp_path / "others.jsonl", rows)
    found = made(root, sources={"alternatives": tmp_path / "others.jsonl"})
    assert set(map(tuple, found.alternatives.values())) == {("nothing like it",)}
    tiny_language.write_rows(tmp_path / "few.jsonl", rows[:2])
    with pytest.raises(UserError, match="its file of alternatives has no other answer") as caught:
        made(root, sources={"alternatives": tmp_path / "few.jsonl"})
    assert "forget.jsonl, line 2" in str(caught.value)


def test_the_loss_prefers_the_alternative_against_the_original(root: Path, tmp_path: Path) -> None:
    rows = [(question, "nothing like it") for question, _ in tiny_language.FORGET]
    tiny_language.write_rows(tmp_path / "others.jsonl", rows)
    objective = made(root, sources={"alternatives": tmp_path / "others.jsonl"}, beta=0.4)
    draw = objective.draw(0, torch.Generator().manual_seed(1), 2)
    rng = torch.Generator().manual_seed(5)
    before = [parts(objective, draw[name]) for name in ("refused", "forget")]
    with torch.no_grad():
        for parameter in objective.weights.parameters:
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=rng))
    after = [parts(objective, draw[name]) for name in ("refused", "forget")]
    total = 0.0
    for row in range(2):
        margin = (after[0][row] - before[0][row]) - (after[1][row] - before[1][row])
        total += -(2 / 0.4) * math.log(1 / (1 + math.exp(-0.4 * margin)))
    assert float(objective.loss("forget", draw)) == pytest.approx(total / 2, rel=1e-4)


def parts(objective: Any, batch: Any) -> list[float]:
    """log p of each row's answer, a token at a time."""
    logs = objective.model.predict(batch).double().log_softmax(dim=-1).detach()
    return [
        sum(float(logs[row, at - 1, label]) for at, label in enumerate(labels.tolist()) if at and label >= 0)
        for row, labels in enumerate(batch.labels)
    ]


def test_plain_text_is_refused(root: Path, tmp_path: Path) -> None:
    (tmp_path / "plain.jsonl").write_text('{"text": "some words"}\n')
    model = LanguageBackend.open(root / "llama", device="cpu")
    request = ErasureRequest(forget=tmp_path / "plain.jsonl")
    objective = AltPO(AltPO.Options(), request)
    with pytest.raises(UserError, match="is plain text"):
        objective.setup(model, prepare(model, request, seed=0), Weights(select(model, "full")), 0)
