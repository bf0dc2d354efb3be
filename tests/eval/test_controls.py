"""Controls: the filter's words, shuffled weights that come back bit for bit, gold that fits the concept."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from fakes import CAR, ToyModel

from oubliette.core.errors import UserError
from oubliette.data.concept import Concept
from oubliette.eval.controls import check_control, gold_opened, open_control, prompt_filter, shuffled
from oubliette.eval.pictures.sampling import Sampling
from oubliette.eval.sample_store import How, SampleStore
from oubliette.eval.sampler import CachedSampler
from oubliette.eval.text.decoding import Decoding


@pytest.mark.parametrize(
    ("prompt", "left"),
    [
        ("a picture of a Car, number 3", "a picture of a, number 3"),
        ("two cars", "two"),
        ("a carpet", "a carpet"),
        ("car", ""),
        ("a coupe in flat style", "a in flat style"),
        ("an automobile", "an automobile"),
    ],
)
def test_prompt_filter(prompt: str, left: str) -> None:
    assert prompt_filter(["car", "coupe"])(prompt) == left


def test_prompt_filter_drops_a_whole_name_before_its_part() -> None:
    assert (
        prompt_filter(["Mira", "Mira Voss"])("a portrait of Mira Voss in flat style")
        == "a portrait of in flat style"
    )


def test_shuffled_weights_keep_their_entries_and_come_back_bit_for_bit() -> None:
    model = ToyModel()
    before = model.weight.detach().clone()
    with shuffled(model, 3):
        inside = model.weight.detach().clone()
        assert not torch.equal(inside, before)
        assert torch.equal(inside.flatten().sort().values, before.flatten().sort().values)
    assert torch.equal(model.weight.detach(), before)
    with shuffled(model, 3):
        assert torch.equal(model.weight.detach(), inside)


def test_shuffled_weights_come_back_after_an_error() -> None:
    model = ToyModel()
    before = model.weight.detach().clone()
    with pytest.raises(RuntimeError), shuffled(model, 0):
        raise RuntimeError
    assert torch.equal(model.weight.detach(), before)


def open_one(spec: str, base: ToyModel, concepts: list[Concept]) -> None:
    painter = CachedSampler("base", base, SampleStore(), Sampling(), role="control")
    with open_control(spec, painter, concepts, ["car"]):
        pass


def test_unknown_controls_are_refused_with_the_nearest() -> None:
    with pytest.raises(UserError, match="did you mean 'gold'"):
        check_control("golt")
    check_control("gold=some/folder")


def test_gold_needs_to_be_known() -> None:
    with pytest.raises(UserError, match="give one as gold=MODEL"):
        open_one("gold", ToyModel(), [CAR])


def test_the_embedded_gold_is_gold_for_the_default_concepts_alone() -> None:
    base = ToyModel()
    base.world = "picture"  # type: ignore[assignment]
    with pytest.raises(UserError, match="not without fish"):
        open_one("gold", base, [Concept("fish", "object", "object")])


def test_on_a_real_pipeline_only_the_denoiser_is_shuffled_and_every_bit_comes_back(
    tiny_pipeline: Any,
) -> None:
    from oubliette.backends import open_model

    model = open_model(tiny_pipeline)
    before, cache = model.fingerprint(), SampleStore()
    how = Sampling(steps=2, guidance=2.0)
    plain = cache.draw(model, ["a car"], [0], how)
    text = model.encode_text(["a car"]).hidden.clone()
    with shuffled(model, 0):
        inside = cache.draw(model, ["a car"], [0], how)
        assert torch.equal(model.encode_text(["a car"]).hidden, text)
    assert model.fingerprint() == before
    assert not np.array_equal(plain, inside)
    assert np.array_equal(SampleStore().draw(model, ["a car"], [0], how), plain)
    assert cache.drawn == 2


def test_of_a_model_without_a_denoiser_all_tensors_are_shuffled() -> None:
    model = ToyModel()
    model.groups = lambda: {}  # type: ignore[method-assign]
    before = model.weight.detach().clone()
    with shuffled(model, 3):
        assert not torch.equal(model.weight, before)
        assert torch.equal(model.weight.reshape(-1).sort().values, before.reshape(-1).sort().values)
    assert torch.equal(model.weight, before)


@pytest.mark.parametrize("sampling", [Sampling(), Decoding()])
def test_a_gold_that_makes_something_else_is_refused(sampling: How) -> None:
    class Other(ToyModel):
        kind = "other"
        draw = respond = property()  # type: ignore[assignment]

    painter = CachedSampler("base", ToyModel(), SampleStore(), Sampling(), role="control")
    painter.sampling = sampling
    with pytest.raises(UserError, match="is a other model; only models that"):
        painter.like("gold", Other())


def test_a_gold_model_is_opened_before_the_work() -> None:
    with pytest.raises(UserError, match="nowhere"):
        gold_opened("gold=nowhere/at/all", ToyModel(), [CAR])
    assert gold_opened("prompt filter", ToyModel(), [CAR]) == "prompt filter"
