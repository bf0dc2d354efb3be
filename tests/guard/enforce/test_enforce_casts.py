"""Frozen bits through casts and weight averages: what is a form of the base, and what is a change."""

from __future__ import annotations

import pytest
import torch
from diffusers.training_utils import EMAModel
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from guard.enforcing import FROZEN, HashedMask, drift, fit, network, values
from oubliette.guard.enforce.enforce import enforce
from oubliette.guard.enforce.watch import MaskViolated, Watch


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_cast_is_no_violation_and_a_change_in_the_cast_is(dtype):
    model = network()
    mask = HashedMask(model)
    with enforce(model, mask) as handle:
        model.to(dtype)
        assert handle.moved() == {}
        model.to(torch.float32)  # holds the rounded values, which fp32 hashes do not match
        assert handle.moved() == {}
    with pytest.raises(MaskViolated, match=r"0\.bias \(changed\)"), enforce(model.to(dtype), mask):
        model[0].bias.data.view(torch.int16)[0] ^= 1
    other = network().to(torch.bfloat16 if dtype is torch.float16 else torch.float16).to(dtype)
    assert "0.weight" in Watch(network(), mask).moved(other)  # rounded twice: no form of the base
    assert set(Watch(network(), mask).moved(network().double())) == set()


def test_training_in_bf16_from_a_published_fp32_mask():
    model = network()
    mask = HashedMask(model)
    model.to(torch.bfloat16)
    before = values(model)
    with enforce(model, mask, every=1) as handle:
        fit(model, torch.optim.AdamW(model.parameters(), lr=1e-2))
        assert handle.moved() == {}
    assert drift(model, before, list(mask.names)) == 0
    assert drift(model, before, ["2.weight"]) > 0


@pytest.mark.parametrize("foreach", [False, True])
def test_diffusers_ema_keeps_frozen_bits(foreach):
    model = network()
    model[0].weight.data[0, 0] = -0.0
    with enforce(model, HashedMask(model)) as handle:
        ema = EMAModel(model.parameters(), decay=0.9, foreach=foreach)
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
        fit(model, optimizer, after=lambda: ema.step(model.parameters()))
        trained = values(model)
        ema.copy_to(model.parameters())
        handle.check()
    assert drift(model, trained, ["2.weight"]) > 0


@pytest.mark.parametrize("average", [None, get_ema_multi_avg_fn(0.9)])
def test_torch_averages_keep_frozen_bits_and_careless_ones_are_told_and_mended(average):
    model = network()
    with enforce(model, HashedMask(model)) as handle:
        kept = AveragedModel(model, multi_avg_fn=average)
        careless = AveragedModel(model, avg_fn=lambda a, b, n: 0.9 * a + 0.1 * b)

        def average_both():
            kept.update_parameters(model)
            careless.update_parameters(model)

        fit(model, torch.optim.AdamW(model.parameters(), lr=1e-2), after=average_both)
        assert handle.moved(kept) == {}
        assert "0.weight" in handle.moved(careless)  # 0.9 x + 0.1 x is not x
        others = careless.module[2].weight.clone()
        handle.mend(careless)
        assert handle.moved(careless) == {}
        assert torch.equal(careless.module[2].weight, others)


def test_torchs_own_average_loses_the_sign_of_zero():
    model = network()
    model[0].weight.data[0, 0] = -0.0
    with enforce(model, HashedMask(model)) as handle:
        average = AveragedModel(model)
        for _ in range(2):
            average.update_parameters(model)
        assert handle.moved(average) == {"0.weight": "changed"}
        handle.mend(average)
        assert handle.moved(average) == {}


@settings(max_examples=60, deadline=None)
@given(data=st.data(), dtype=st.sampled_from([torch.float32, torch.float16, torch.bfloat16, torch.float64]))
def test_any_flipped_bit_of_any_frozen_tensor_is_named_alone(data, dtype):
    model = network()
    watch = Watch(model, HashedMask(model))
    model.to(dtype)
    name = data.draw(st.sampled_from(FROZEN))
    raw = dict(model.named_parameters())[name].data.view(torch.uint8).reshape(-1)
    assert watch.moved() == {}
    raw[data.draw(st.integers(0, raw.numel() - 1))] ^= 1 << data.draw(st.integers(0, 7))
    assert watch.moved() == {name: "changed"}
