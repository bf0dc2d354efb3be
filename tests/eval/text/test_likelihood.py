"""The likelihood of answers is the loss's own, of the model as it was and as it is."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import tiny_language
from oubliette.backends.language import LanguageBackend
from oubliette.data.questions import QA
from oubliette.erase.language.prepare import TokenSet
from oubliette.eval.text.likelihood import Answers, answered
from oubliette.train.scope import select
from oubliette.train.weights import Weights

FORGET = [QA(*row) for row in tiny_language.FORGET]
RETAIN = [QA("", "All of it counts."), *(QA(*row) for row in tiny_language.RETAIN)]


@pytest.fixture
def model(tmp_path: Path) -> LanguageBackend:
    return LanguageBackend.open(tiny_language.save(tmp_path / "model", "gpt2"), device="cpu")


def test_before_is_the_original_and_after_the_model_as_it_is(model: LanguageBackend) -> None:
    weights = Weights(select(model, "full"))
    then = {
        name: -float(TokenSet(model.encode(rows)).loss(model, model.encode(rows)))
        for name, rows in {"forget": FORGET, "retain": RETAIN}.items()
    }
    first = model.respond([FORGET[0].question], max_new_tokens=3)[0]
    with torch.no_grad():
        for parameter in weights.parameters:
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0)))
    assert isinstance(model, Answers)
    found = answered(model, weights.originals, {"forget": FORGET, "retain": RETAIN})
    for one in found.sets:
        rows = {"forget": FORGET, "retain": RETAIN}[one.name]
        assert one.before == pytest.approx(then[one.name], rel=1e-5)
        assert one.after == pytest.approx(
            -float(TokenSet(model.encode(rows)).loss(model, model.encode(rows))), rel=1e-5
        )
        assert one.after != one.before
    assert [one.question for one in found.said] == [row.question for row in FORGET]
    assert found.said[0].before.startswith(first.strip()[:1])
    assert set(found.facts()["likelihood"]) == {"forget", "retain"}


def test_some_rows_are_said_to_be_some(model: LanguageBackend) -> None:
    weights = Weights(select(model, "full"))
    found = answered(model, weights.originals, {"retain": RETAIN}, limit=2)
    assert (found.sets[0].rows, found.sets[0].of) == (2, 4)
    assert str(found.sets[0]).endswith("(2 of 4 rows)")


def test_what_is_not_finite_is_said_and_stays_json(model: LanguageBackend) -> None:
    weights = Weights(select(model, "full"))
    with torch.no_grad():
        weights.parameters[0].fill_(float("nan"))
    found = answered(model, weights.originals, {"forget": FORGET})
    assert found.sets[0].after is None
    assert "not finite after" in str(found.sets[0])
