"""The measured scope against models whose blocks are zeroed one by one in a copy."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import tiny_language
from oubliette.backends.language import LanguageBackend
from oubliette.core.errors import UserError
from oubliette.erase.run import erase
from oubliette.recipe import build_recipe
from oubliette.train.attribution import attribution, zeroed
from oubliette.train.scope import select
from oubliette.workflows.estimate import estimate

from .models import MlpBackend


@pytest.fixture
def files(tmp_path: Path) -> dict[str, str]:
    tiny_language.save(tmp_path / "model", "llama")
    return {
        "forget": str(tiny_language.write_rows(tmp_path / "forget.jsonl", tiny_language.FORGET)),
        "model": str(tmp_path / "model"),
    }


def recipe(files: dict[str, str], **scope: Any) -> Any:
    asked = {
        "method": "random-labels",
        "train": {"steps": 2, "batch": 2, "learning_rate": 1e-3},
        "scope": {"name": "attribution", **scope},
        "forget": files["forget"],
    }
    return build_recipe(asked)


def mean_loss(network: Any, model: LanguageBackend) -> float:
    """The mean over rows of a row's own loss, one at a time, through transformers' own."""
    batch = model.encode([tiny_row(*pair) for pair in tiny_language.FORGET])
    rows = [batch.index([row]) for row in range(len(batch))]
    found = [network(input_ids=r.input_ids, attention_mask=r.attention_mask, labels=r.labels) for r in rows]
    return sum(float(one.loss) for one in found) / len(found)


def tiny_row(question: str, answer: str) -> Any:
    from oubliette.data.questions import QA

    return QA(question, answer)


def test_the_scores_are_what_is_lost_without_each_block_and_every_bit_returns(files: dict[str, str]) -> None:
    model = LanguageBackend.open(files["model"], device="cpu")
    before = {name: value.detach().clone() for name, value in model.tensors().items()}
    whole, scores = mean_loss(model.model, model), []
    for number in range(2):
        other = copy.deepcopy(model.model)
        for parameter in other.model.layers[number].parameters():
            nn.init.zeros_(parameter)
        scores.append(abs(mean_loss(other, model) - whole))
    result = erase(model, recipe(files, top=1), show_progress=False)
    assert result.scope is not None
    assert result.scope["scores"] == pytest.approx(scores, rel=1e-4, abs=2e-6)
    assert result.scope["loss"] == pytest.approx(whole, rel=1e-5)
    assert result.scope["blocks"] == [scores.index(max(scores))]
    assert result.scope["forwards"] == (2 + 1) * len(tiny_language.FORGET)
    assert result.record()["scope"] == result.scope
    own = f"model.layers.{result.scope['blocks'][0]}."
    assert set(result.changed) == {name for name in before if name.startswith(own) and "norm" not in name}
    moved = {name for name, value in model.tensors().items() if not torch.equal(value, before[name])}
    assert moved == set(result.changed)
    result.undo()
    assert all(torch.equal(value, before[name]) for name, value in model.tensors().items())


def test_the_greatest_scores_are_taken_in_the_models_order(files: dict[str, str]) -> None:
    model = LanguageBackend.open(files["model"], device="cpu")
    said = iter([1.0, 0.75, 1.5])
    assert attribution.choose(model, 1, lambda: next(said), 1, False).blocks == (1,)
    said = iter([1.0, 0.75, 1.5])
    both = attribution.choose(model, 2, lambda: next(said), 1, False)
    assert both.blocks == (0, 1)
    assert both.scores == (0.25, 0.5)
    said = iter([1.0, 0.5, 1.5])  # as much down as up: the earlier
    assert attribution.choose(model, 1, lambda: next(said), 1, False).blocks == (0,)
    said = iter([1.0, 0.5, float("nan")])
    with pytest.raises(UserError, match="not finite"):
        attribution.choose(model, 1, lambda: next(said), 1, False)


def test_a_quarter_of_the_blocks_where_none_is_named() -> None:
    class Deep(MlpBackend):
        def blocks(self) -> list[nn.Module]:
            return [self.net.first] * 32

    assert attribution.count(Deep(), None) == 8  # FIT's 8 of 32


def test_more_blocks_than_there_are_and_what_measures_nothing_are_refused(files: dict[str, str]) -> None:
    model = LanguageBackend.open(files["model"], device="cpu")
    with pytest.raises(UserError, match=r"scope\.top is 3, and .* has 2 blocks; give at most 2"):
        erase(model, recipe(files, top=3))
    with pytest.raises(UserError, match="'full' measures no blocks"):
        build_recipe({"method": "npo", "scope": {"name": "full", "top": 2}})
    with pytest.raises(UserError, match="for erasing alone"):
        select(model, "attribution")
    with pytest.raises(UserError, match="selects no tensor"):
        select(MlpBackend(), "attribution", measured=True)


def test_what_is_frozen_stays_whatever_is_chosen(files: dict[str, str]) -> None:
    model = LanguageBackend.open(files["model"], device="cpu")
    frozen = [name for name in model.tensors() if "mlp" in name]
    asked = recipe(files, top=2).model_copy(update={"freeze": frozen})
    changed = erase(model, asked, show_progress=False).changed
    assert changed
    assert all("self_attn" in name for name in changed)


def test_the_estimate_counts_blocks_and_one_forwards_of_each_row(files: dict[str, str]) -> None:
    model = LanguageBackend.open(files["model"], device="cpu")
    one, both = (estimate(model, recipe(files, top=top)) for top in (1, 2))
    whole = estimate(model, recipe(files).model_copy(update={"scope": {"name": "full"}}))
    assert one["measuring"] == 3 * len(tiny_language.FORGET)
    assert one["forwards"] == whole["forwards"] + one["measuring"]
    assert both["parameters"] == 2 * one["parameters"] < whole["parameters"]


def test_zeros_leave_even_a_negative_zero_and_nan_as_they_were() -> None:
    parameter = nn.Parameter(torch.tensor([-0.0, float("nan"), 1.0]))
    bits = parameter.detach().view(torch.int32).clone()
    with zeroed([parameter]):
        assert not parameter.any()
    assert torch.equal(parameter.detach().view(torch.int32), bits)
