"""PDU: the margin as loops over logits, the multiplier as the recursion says, and what it needs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import tiny_language
from oubliette.backends.language import LanguageBackend
from oubliette.core.errors import UserError
from oubliette.erase.language.pdu import PDU
from oubliette.erase.language.prepare import prepare
from oubliette.erase.request import ErasureRequest
from oubliette.train.config import TrainConfig
from oubliette.train.loop import Loop
from oubliette.train.scope import select
from oubliette.train.weights import Weights


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("pdu")
    tiny_language.save(root / "llama", "llama")
    tiny_language.write_rows(root / "forget.jsonl", tiny_language.FORGET)
    tiny_language.write_rows(root / "retain.jsonl", tiny_language.RETAIN)
    return root


def loop(root: Path, steps: int, *, checkpoint: Path | None = None, every: int = 0, **options: Any) -> Any:
    model = LanguageBackend.open(root / "llama", device="cpu")
    request = ErasureRequest(forget=root / "forget.jsonl", retain_file=root / "retain.jsonl")
    objective = PDU(PDU.Options(**options), request)
    weights = Weights(select(model, "full"))
    config = TrainConfig(
        steps=steps, batch=2, accumulation=2, learning_rate=1e-3, checkpoint_every=every, log_every=1
    )
    data = prepare(model, request, seed=0)
    return Loop(model, objective, data, weights, config, checkpoint=checkpoint, show_progress=False)


def test_the_margin_is_of_every_answer_token_by_a_loop(root: Path) -> None:
    made = loop(root, 1)
    draw = made.objective.draw(0, torch.Generator().manual_seed(3), 2)
    logits = made.model.predict(draw["forget"]).detach().double()
    rows = []
    for row, labels in zip(logits, draw["forget"].labels, strict=True):
        each = [
            float(row[at - 1].max() - row[at - 1].mean()) ** 2
            for at in range(1, len(labels))
            if labels[at] >= 0
        ]
        rows.append(sum(each) / len(each))
    assert float(made.objective.loss("forget", draw)) == pytest.approx(sum(rows) / len(rows), rel=1e-5)


def test_the_multiplier_follows_the_bound_from_the_step_after_the_hold(root: Path) -> None:
    options: dict[str, Any] = {"multiplier": 1.0, "rate": 0.5, "bound": 3.0, "hold": 2}
    made = loop(root, 5, **options)
    seen = [(made.objective.multiplier, made._update()["retain"]) for _ in range(5)]
    assert [mu for mu, _ in seen[:3]] == [1.0] * 3  # what a step costs tells in the next
    mu = 1.0
    for step in range(2, 5):
        mu = max(0.0, mu + 0.5 * (seen[step][1] - 3.0))
        made.objective.roles(step + 1)
        if step < 4:
            continue
    assert made.objective.multiplier == pytest.approx(mu, rel=1e-6)
    assert made.records[-1]["report"]["multiplier"] == pytest.approx(
        max(0.0, max(0.0, 1 + 0.5 * (seen[2][1] - 3.0)) + 0.5 * (seen[3][1] - 3.0)), rel=1e-6
    )


def test_the_multiplier_is_never_below_nothing(root: Path) -> None:
    made = loop(root, 3, multiplier=0.1, rate=100.0, bound=50.0)
    made.run()
    made.objective.roles(3)
    assert made.objective.multiplier == 0.0


def test_it_goes_on_from_a_checkpoint_in_the_same_bits(root: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"multiplier": 1.0, "rate": 2.0, "bound": 3.0}
    straight = loop(root, 4, **options)
    straight.run()
    first = loop(root, 4, checkpoint=tmp_path / "kept", every=2, **options)
    first.advance(2)
    second = loop(root, 4, checkpoint=tmp_path / "kept", every=2, **options)
    second.load_checkpoint()
    second.run()
    assert second.objective.multiplier == straight.objective.multiplier != 1.0
    for one, other in zip(second.weights.parameters, straight.weights.parameters, strict=True):
        assert torch.equal(one, other)


def test_it_needs_a_retain_set(root: Path) -> None:
    model = LanguageBackend.open(root / "llama", device="cpu")
    request = ErasureRequest(forget=root / "forget.jsonl")
    objective = PDU(PDU.Options(), request)
    with pytest.raises(UserError, match="bounds what the retain set may cost"):
        objective.setup(model, prepare(model, request, seed=0), Weights(select(model, "full")), 0)
