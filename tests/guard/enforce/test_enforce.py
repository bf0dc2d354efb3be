"""Frozen tensors under every optimiser, and what the handle says when something goes past one."""

from __future__ import annotations

import copy
import sys

import pytest
import torch

from guard.enforcing import FROZEN, HashedMask, drift, fit, network, values
from oubliette.core.errors import UserError
from oubliette.guard.enforce.enforce import enforce
from oubliette.guard.enforce.watch import MaskViolated, Watch

OPTIMIZERS = {
    "adamw": lambda p: torch.optim.AdamW(p, lr=1e-2, weight_decay=0.1, foreach=False),
    "adamw foreach": lambda p: torch.optim.AdamW(p, lr=1e-2, weight_decay=0.1, foreach=True),
    "adamw fused": lambda p: torch.optim.AdamW(p, lr=1e-2, weight_decay=0.1, fused=True),
    "sgd": lambda p: torch.optim.SGD(p, lr=1e-2, momentum=0.9, weight_decay=0.1, nesterov=True),
    "sgd fused": lambda p: torch.optim.SGD(p, lr=1e-2, momentum=0.9, weight_decay=0.1, fused=True),
    "rmsprop": lambda p: torch.optim.RMSprop(p, lr=1e-3, momentum=0.9, weight_decay=0.1),
    "adagrad": lambda p: torch.optim.Adagrad(p, lr=1e-2, weight_decay=0.1),
    "adafactor": lambda p: torch.optim.Adafactor(p, lr=1e-2, weight_decay=0.1),
    "adam amsgrad": lambda p: torch.optim.Adam(p, lr=1e-2, weight_decay=0.1, amsgrad=True),
}


# -- optimisers ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_an_optimiser_over_all_parameters_leaves_frozen_bits_and_moves_the_rest(name):
    model = network()
    before = values(model)
    with enforce(model, HashedMask(model)) as handle:
        optimizer = OPTIMIZERS[name](model.parameters())
        handle.check(optimizer)
        fit(model, optimizer)
        assert handle.moved() == {}
    assert drift(model, before) == 0.0
    assert drift(model, before, ["2.weight"]) > 1e-4


@pytest.mark.parametrize("name", ["AdamW8bit", "SGD8bit"])
def test_eight_bit_optimisers_leave_frozen_bits(name):
    library = pytest.importorskip("bitsandbytes")
    # Below 4096 entries its optimisers keep ordinary states.
    model = torch.nn.Sequential(torch.nn.Linear(6, 2048), torch.nn.Tanh(), torch.nn.Linear(2048, 3))
    before = values(model)
    with enforce(model, HashedMask(model)) as handle:
        more = {"momentum": 0.9} if name == "SGD8bit" else {}
        optimizer = getattr(library.optim, name)(model.parameters(), lr=1e-2, weight_decay=0.1, **more)
        fit(model, optimizer)
        assert handle.steps == 5
    assert optimizer.state[model[2].weight]["state1"].dtype is torch.uint8
    assert drift(model, before) == 0.0
    assert drift(model, before, ["2.weight"]) > 1e-4


def test_zeroed_gradients_let_weight_decay_move_a_tensor_and_that_is_seen():
    model = network()
    before, watch = values(model), Watch(model, HashedMask(model))
    for parameter in model[0].parameters():
        parameter.register_hook(torch.zeros_like)
    fit(model, torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=1e-2), 50)
    assert drift(model, before) > 1e-5
    assert watch.moved() == dict.fromkeys(FROZEN, "changed")
    with pytest.raises(MaskViolated, match=r"0\.weight \(changed\), 0\.bias \(changed\)"):
        watch.require()


def test_freezing_in_mid_run_with_kept_gradients_moves_a_tensor_without_the_mask_and_not_with_it():
    def half_way():
        model = network()
        optimizer = torch.optim.SGD(model.parameters(), lr=1e-1, momentum=0.9)
        fit(model, optimizer, set_to_none=False)
        return model, optimizer, values(model)

    model, optimizer, before = half_way()
    watch = Watch(model, FROZEN)
    model[0].requires_grad_(False)
    fit(model, optimizer, set_to_none=False)
    assert drift(model, before) > 1e-3
    assert set(watch.moved()) == set(FROZEN)

    model, optimizer, before = half_way()
    with enforce(model, FROZEN) as handle:
        handle.check(optimizer)
        fit(model, optimizer, set_to_none=False)
    assert drift(model, before) == 0.0


def test_a_gradient_that_comes_back_is_dropped_before_the_step():
    model = network()
    before = values(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    with enforce(model, FROZEN) as handle:

        def stale():
            model[0].weight.grad = torch.zeros_like(model[0].weight)

        fit(model, optimizer, 3, after=stale)
        with pytest.raises(UserError, match=r"the optimiser can move 0\.weight"):
            handle.check(optimizer)
    assert drift(model, before) == 0.0
    assert handle.dropped == {"0.weight": 2}


def test_a_tensor_made_trainable_again_is_refused_before_it_moves():
    model = network()
    before = values(model)
    with enforce(model, HashedMask(model)):
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
        model.requires_grad_(True)
        with pytest.raises(UserError, match=r"0\.weight, 0\.bias became trainable again"):
            fit(model, optimizer)
    assert drift(model, before, before) == 0.0


def test_optimiser_parameters_are_the_trainable_ones():
    model = network()
    foreign = torch.optim.SGD(network().parameters(), lr=1.0)
    with enforce(model, FROZEN) as handle:
        own = handle.optimizer_parameters()
        assert [id(p) for p in own] == [id(p) for p in model[2].parameters()]
        handle.check(foreign)  # another model's optimiser is none of the mask's business
        fit(model, torch.optim.SGD(own, lr=1e-2), 2)
        foreign.step()
        assert handle.steps == 2
        model[2].requires_grad_(False)
        with pytest.raises(UserError, match="nothing is left to train"):
            handle.optimizer_parameters()
    model.requires_grad_(True)
    handle = enforce(model, FROZEN)
    with handle:
        model[0].weight.requires_grad_(True)
        with pytest.raises(UserError, match=r"can move 0\.weight, which the mask freezes"):
            handle.check(torch.optim.SGD(model.parameters(), lr=1.0))


# -- entering and leaving ------------------------------------------------------------------------------------


def test_flags_come_back_and_hooks_go():
    model = network()
    model[0].bias.requires_grad_(False)
    hooks = sys.modules["torch.optim.optimizer"]._global_optimizer_pre_hooks
    assert not hooks
    with enforce(model, FROZEN):
        assert len(hooks) == 1
        assert [p.requires_grad for p in model.parameters()] == [False, False, True, True]
    assert [p.requires_grad for p in model.parameters()] == [True, False, True, True]
    assert not hooks

    def fail():
        with enforce(model, HashedMask(model)):
            model[0].weight.data += 1
            raise RuntimeError("mine")

    with pytest.raises(RuntimeError, match="mine"):  # an error of the block's own is not hidden by the mask's
        fail()
    assert [p.requires_grad for p in model.parameters()] == [True, False, True, True]
    assert not hooks


def test_what_goes_past_the_optimiser_is_found_at_the_end_and_between():
    model = network()
    mask = HashedMask(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)

    def leak():
        model[0].weight.data[0, 0] += 1e-7  # invisible to autograd's version counter

    with (
        pytest.raises(MaskViolated, match=r"at the end of the block: 0\.weight \(changed\)") as caught,
        enforce(model, mask),
    ):
        fit(model, optimizer, 1, after=leak)
    assert caught.value.tensors == {"0.weight": "changed"}
    with pytest.raises(UserError, match=r"0\.weight: not as the mask's base has them"):
        enforce(model, mask).start()
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)

    def leak_more():
        model[0].weight.data += 1e-3

    handle = enforce(model, mask, every=2)
    handle.start()
    fit(model, optimizer, 3)
    with pytest.raises(MaskViolated, match="after step 6"):
        fit(model, optimizer, 9, after=leak_more)
    handle.stop()


def test_restoring_puts_bits_back_and_counts():
    model = network()
    before = values(model)

    def leak():
        model[0].weight.data += 1.0

    handle = enforce(model, FROZEN, every=2, restore=True)

    def run():
        with handle:
            fit(model, torch.optim.SGD(model.parameters(), lr=1e-3), 4, after=leak)
            assert drift(model, before) > 0.5  # the last leak came after the last look

    with pytest.warns(UserWarning, match=r"put back after step 2: 0\.weight"):
        run()
    assert handle.restored == {"0.weight": 3}
    assert drift(model, before) == 0.0


def test_a_replaced_layer_is_gone():
    model = network()
    with pytest.raises(MaskViolated, match=r"0\.weight \(gone\), 0\.bias \(gone\)"), enforce(model, FROZEN):
        model[0] = torch.nn.Identity()


def test_without_checks_nothing_is_hashed_and_nothing_is_claimed(monkeypatch):
    model = network()
    monkeypatch.setattr("oubliette.guard.enforce.watch.digests", None)
    with enforce(model, FROZEN, check=False) as handle:
        assert not model[0].weight.requires_grad
        with pytest.raises(UserError, match="nothing to compare with"):
            handle.check()
    for more in ({"every": 2}, {"restore": True}):
        with pytest.raises(UserError, match="need check=True"):
            enforce(model, FROZEN, check=False, **more)
    with pytest.raises(UserError, match="every must be 0"):
        enforce(model, FROZEN, every=-1)


def test_two_masks_at_once_both_hold():
    model = network()
    before = values(model)
    with enforce(model, ["0.weight"]) as outer, enforce(model, ["2.bias"]):
        with pytest.raises(UserError, match="already being enforced"):
            outer.start()
        fit(model, torch.optim.AdamW(model.parameters(), lr=1e-2))
    assert drift(model, before, ["0.weight", "2.bias"]) == 0.0
    assert all(p.requires_grad for p in model.parameters())


def test_copies_of_a_frozen_model_are_free_again_only_after_the_block():
    model = network()
    with enforce(model, FROZEN):
        twin = copy.deepcopy(model)
        assert not twin[0].weight.requires_grad
