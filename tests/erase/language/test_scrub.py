"""SCRUB: both losses as loops over probabilities, which role has which step, and what it needs."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch

import tiny_language
from oubliette.backends.language import LanguageBackend
from oubliette.core.errors import UserError
from oubliette.erase.language.prepare import prepare
from oubliette.erase.language.scrub import SCRUB
from oubliette.erase.request import ErasureRequest
from oubliette.train.config import TrainConfig
from oubliette.train.loop import Loop
from oubliette.train.scope import select
from oubliette.train.weights import Weights


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("scrub")
    tiny_language.save(root / "llama", "llama")
    tiny_language.write_rows(root / "forget.jsonl", tiny_language.FORGET)
    tiny_language.write_rows(root / "retain.jsonl", tiny_language.RETAIN)
    return root


def loop(root: Path, steps: int, *, checkpoint: Path | None = None, every: int = 0, **options: Any) -> Loop:
    model = LanguageBackend.open(root / "llama", device="cpu")
    request = ErasureRequest(forget=root / "forget.jsonl", retain_file=root / "retain.jsonl")
    objective = SCRUB(SCRUB.Options(**options), request)
    config = TrainConfig(steps=steps, batch=2, learning_rate=1e-2, checkpoint_every=every, log_every=1)
    data, weights = prepare(model, request, seed=0), Weights(select(model, "full"))
    return Loop(model, objective, data, weights, config, checkpoint=checkpoint, show_progress=False)


def by_hand(made: Loop, name: str, draw: Any, heat: float) -> tuple[float, float]:
    """The divergence and the nll of a set's rows, token by token."""
    batch = draw[name]
    with torch.no_grad():
        now = made.model.predict(batch).double()
        with made.weights.originals():
            before = made.model.predict(batch).double()
    divergences, costs = [], []
    for row, labels in enumerate(batch.labels):
        each, cost = [], []
        for at in range(1, len(labels)):
            if labels[at] < 0:
                continue
            p = (before[row, at - 1] / heat).softmax(0).tolist()
            q = (now[row, at - 1] / heat).softmax(0).tolist()
            each.append(heat**2 * sum(a * math.log(a / b) for a, b in zip(p, q, strict=True)))
            cost.append(-float(now[row, at - 1].log_softmax(0)[labels[at]]))
        divergences.append(sum(each) / len(each))
        costs.append(sum(cost) / len(cost))
    return sum(divergences) / len(divergences), sum(costs) / len(costs)


@pytest.mark.parametrize("heat", [1.0, 2.0])
def test_both_losses_are_their_formulas(root: Path, heat: float) -> None:
    made = loop(root, 3, temperature=heat, divergence=0.3, likelihood=0.7, forget_steps=1, retain_steps=1)
    made.run()  # away from the original
    draw = made.objective.draw(0, torch.Generator().manual_seed(3), 2)
    divergence, _ = by_hand(made, "forget", draw, heat)
    assert divergence > 1e-3
    assert float(made.objective.loss("forget", draw)) == pytest.approx(-divergence, rel=1e-4)
    divergence, cost = by_hand(made, "retain", draw, heat)
    assert float(made.objective.loss("retain", draw)) == pytest.approx(
        0.3 * divergence + 0.7 * cost, rel=1e-4
    )


def test_at_the_original_there_is_no_divergence_and_no_slope(root: Path) -> None:
    made = loop(root, 1)
    draw = made.objective.draw(0, torch.Generator().manual_seed(3), 2)
    assert float(made.objective.loss("forget", draw)) == pytest.approx(0, abs=1e-6)
    with torch.no_grad():
        _, cost = by_hand(made, "retain", draw, 2.0)
        assert float(made.objective.loss("retain", draw)) == pytest.approx(cost, rel=1e-4)


def test_phases_take_turns_until_the_rounds_are_over(root: Path) -> None:
    made = loop(root, 9, forget_steps=1, retain_steps=2, rounds=2)
    made.run()
    assert [next(iter(record["loss"])) for record in made.records] == [
        *("forget", "retain", "retain") * 2,
        *("retain",) * 3,
    ]
    assert all(len(record["loss"]) == 1 for record in made.records)


def test_it_goes_on_from_a_checkpoint_within_a_phase_in_the_same_bits(root: Path, tmp_path: Path) -> None:
    options = {"forget_steps": 2, "retain_steps": 2}
    straight = loop(root, 6, **options)
    straight.run()
    first = loop(root, 6, checkpoint=tmp_path / "kept", every=1, **options)
    first.advance(5)
    second = loop(root, 6, checkpoint=tmp_path / "kept", every=1, **options)
    second.load_checkpoint()
    second.run()
    for one, other in zip(second.weights.parameters, straight.weights.parameters, strict=True):
        assert torch.equal(one, other)


def test_without_divergence_the_original_is_not_asked_when_it_retains(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = loop(root, 1, divergence=0.0)
    draw = made.objective.draw(0, torch.Generator().manual_seed(3), 2)
    monkeypatch.setattr(made.objective, "teacher", None)
    with torch.no_grad():
        assert float(made.objective.loss("retain", draw)) == pytest.approx(
            float(made.objective.data.retain.loss(made.model, draw["retain"]))
        )


def test_what_it_cannot_do_is_said(root: Path) -> None:
    model = LanguageBackend.open(root / "llama", device="cpu")
    request = ErasureRequest(forget=root / "forget.jsonl")
    with pytest.raises(UserError, match="in turn, and there is no retain set"):
        SCRUB(SCRUB.Options(), request).setup(
            model, prepare(model, request, seed=0), Weights(select(model, "full")), 0
        )
    with pytest.raises(UserError, match="both 0"):
        SCRUB(SCRUB.Options(divergence=0, likelihood=0), request)
