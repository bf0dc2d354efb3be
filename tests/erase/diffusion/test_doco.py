"""DoCo: who moves what, and what the released code did."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

import tiny_erasure
from oubliette.erase.diffusion.doco import DoCo
from oubliette.train.smoothing import Sam
from oubliette.train.surgery import DocoRef, Project

NOW = {"warm_up": 0}


def bits(tensors: list[torch.Tensor]) -> list[torch.Tensor]:
    return [tensor.detach().clone() for tensor in tensors]


def same(left: list[torch.Tensor], right: list[torch.Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(left, right, strict=True))


def test_losses_are_binary_cross_entropies_with_the_anchor_as_zero() -> None:
    case = tiny_erasure.Prepared(DoCo, depth=1, **NOW)
    draw = case.draw()
    judge = case.method.discriminators[0]
    signal = case.model.pipe.scheduler.alphas_cumprod[draw["t"]].view(-1, 1, 1, 1)

    def clean(prompts: list[str]) -> torch.Tensor:
        noise = case.model.pipe.unet(draw["noisy"], draw["t"], case.model.encode_text(prompts).hidden).sample
        return (draw["noisy"] - (1 - signal).sqrt() * noise) / signal.sqrt()

    with torch.no_grad():
        target = clean(draw["target"])
        with case.weights.originals():
            anchor = clean(draw["anchor"])
    torch.testing.assert_close(draw["anchor_clean"], anchor, rtol=1e-4, atol=1e-4)
    zeros, ones = torch.zeros_like(judge(target)), torch.ones_like(judge(target))
    bce = F.binary_cross_entropy_with_logits
    torch.testing.assert_close(
        case.method.loss("forget", draw), bce(judge(target), zeros), rtol=1e-4, atol=1e-5
    )
    torch.testing.assert_close(
        case.method.loss("discriminator", draw),
        bce(judge(target), ones) + bce(judge(anchor), zeros),
        rtol=1e-4,
        atol=1e-5,
    )


def test_each_concept_is_told_from_its_own_anchor_by_its_own_discriminator() -> None:
    asked = tiny_erasure.request(tiny_erasure.CAR, tiny_erasure.VAN_GOGH)
    case = tiny_erasure.Prepared(DoCo, asked=asked, **NOW)
    draw = case.draw(batch=4)
    assert draw["concepts"] == [0, 1, 0, 1]
    car, style = case.method.discriminators
    with torch.no_grad():
        target = case.method.clean(case.method.student(draw["noisy"], draw["t"], draw["target"]), draw)
        logits = torch.cat([car(target[0::2]), style(target[1::2])])
    torch.testing.assert_close(case.method.loss("forget", draw), F.softplus(logits).mean())
    (first,) = torch.autograd.grad(case.method.loss("discriminator", draw), [next(car.parameters())])
    draw["anchor_clean"][1::2] += 1  # the other concept's anchor says nothing about the car
    (again,) = torch.autograd.grad(case.method.loss("discriminator", draw), [next(car.parameters())])
    torch.testing.assert_close(first, again, rtol=0, atol=0)
    alone = tiny_erasure.Prepared(DoCo, **NOW).method.discriminators
    assert same(list(alone.parameters()), list(car.parameters()))


def test_warm_up_trains_the_discriminator_alone() -> None:
    loop = tiny_erasure.loop(DoCo, options={"warm_up": 2})
    before = bits(list(loop.objective.discriminators.parameters()))
    loop.advance(2)
    assert all(float(delta.abs().max()) == 0 for delta in loop.weights.delta().values())
    assert not same(before, list(loop.objective.discriminators.parameters()))
    loop.advance(1)
    assert all(float(delta.abs().max()) > 0 for delta in loop.weights.delta().values())
    assert [sorted(record["loss"]) for record in loop.records] == [
        ["discriminator"],
        ["discriminator"],
        ["discriminator", "forget", "prior"],
    ]


def test_the_models_update_leaves_the_discriminator_alone() -> None:
    """With its own optimiser's rate at (next to) nothing, only the model's update could have moved it."""
    loop = tiny_erasure.loop(DoCo, options={**NOW, "discriminator_learning_rate": 1e-45}, surgery=Project())
    before = bits(list(loop.objective.discriminators.parameters()))
    loop.advance(3)
    assert same(before, list(loop.objective.discriminators.parameters()))
    assert all(parameter.grad is None for parameter in loop.objective.discriminators.parameters())
    assert all(float(delta.abs().max()) > 0 for delta in loop.weights.delta().values())


def test_the_models_update_does_not_depend_on_what_the_discriminator_learns_in_the_same_step() -> None:
    ends = []
    for rate in (1e-45, 1e-2):
        loop = tiny_erasure.loop(DoCo, options={**NOW, "discriminator_learning_rate": rate})
        loop.advance(1)
        ends.append(bits(loop.weights.parameters))
    assert same(*ends)


def test_the_teachers_pass_gives_every_bit_back_and_ignores_training() -> None:
    case = tiny_erasure.Prepared(DoCo, **NOW)
    before = bits(case.weights.parameters)
    pointers = [parameter.data_ptr() for parameter in case.weights.parameters]
    draw = case.draw()
    assert same(before, case.weights.parameters)
    assert pointers == [parameter.data_ptr() for parameter in case.weights.parameters]
    untouched = tiny_erasure.Prepared(DoCo, nudge=0.0, **NOW).draw()
    assert torch.equal(draw["anchor_clean"], untouched["anchor_clean"])


def literal_release(case: tiny_erasure.Prepared, draw: dict, *, steps_before: int) -> list[torch.Tensor]:
    """The released order of backward passes in one step, D's gradients never cleared.

    Returns what its optimiser then sees. `steps_before` 0 is a warm-up step: the model is not updated.
    """
    judge = copy.deepcopy(case.method.discriminators[0])
    judge.zero_grad()
    target = case.method.clean(case.method.student(draw["noisy"], draw["t"], draw["target"]), draw)
    bce = F.binary_cross_entropy_with_logits
    if steps_before:
        logits = judge(target)
        bce(logits, torch.zeros_like(logits)).backward()
    logits_target, logits_anchor = judge(target.detach()), judge(draw["anchor_clean"])
    loss = bce(logits_target, torch.ones_like(logits_target)) + bce(
        logits_anchor, torch.zeros_like(logits_anchor)
    )
    loss.backward()
    return [parameter.grad for parameter in judge.parameters()]


@pytest.mark.parametrize("norm", ["group", "batch"])
@pytest.mark.parametrize("updated", [False, True])
def test_leak_is_what_the_released_procedure_leaves_in_the_discriminator(norm: str, updated: bool) -> None:
    case = tiny_erasure.Prepared(DoCo, leak=True, norm=norm, depth=1, **NOW)
    draw = case.draw()
    released = literal_release(case, draw, steps_before=int(updated))
    if updated:
        case.method.loss("forget", draw)  # the model's turn comes first, as in the loop
    parameters = list(case.method.discriminators.parameters())
    ours = torch.autograd.grad(case.method.loss("discriminator", draw), parameters)
    for one, other in zip(ours, released, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


def test_without_leak_the_discriminator_does_not_hear_of_the_erasing_loss() -> None:
    case = tiny_erasure.Prepared(DoCo, leak=False, depth=1, **NOW)
    draw = case.draw()
    clean = literal_release(case, draw, steps_before=0)
    case.method.loss("forget", draw)
    ours = torch.autograd.grad(
        case.method.loss("discriminator", draw), list(case.method.discriminators.parameters())
    )
    for one, other in zip(ours, clean, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


def test_the_helper_needs_no_forward_of_its_own_after_the_forget_loss(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    case = tiny_erasure.Prepared(DoCo, **NOW)
    draw = case.draw()
    calls: list[int] = []
    predict = case.model.predict
    monkeypatch.setattr(case.model, "predict", lambda *a: calls.append(1) or predict(*a))
    case.method.loss("forget", draw)
    case.method.loss("discriminator", draw)
    assert len(calls) == 1


def test_a_smoother_does_not_change_what_the_discriminator_sees() -> None:
    seen = []
    for smoother in (None, Sam(rho=0.5)):
        loop = tiny_erasure.loop(DoCo, options=NOW, smoother=smoother)
        loop.advance(1)
        seen.append(bits(list(loop.objective.discriminators.parameters())))
    assert same(*seen)


def test_rescale_shows_clean_latents_times_their_signal_level() -> None:
    plain, scaled = (tiny_erasure.Prepared(DoCo, rescale=rescale, **NOW) for rescale in (False, True))
    draw, other = plain.draw(), scaled.draw()
    signal = plain.model.pipe.scheduler.alphas_cumprod[draw["t"]].sqrt().view(-1, 1, 1, 1)
    torch.testing.assert_close(other["anchor_clean"], draw["anchor_clean"] * signal, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_every_prediction_type_gives_the_clean_latents_back(prediction: str) -> None:
    case = tiny_erasure.Prepared(DoCo, model=tiny_erasure.backend(prediction), **NOW)
    draw = case.draw()
    truth = case.model.target_of(draw["clean"], draw["noise"], draw["t"])
    torch.testing.assert_close(case.method.clean(truth, draw), draw["clean"], rtol=1e-2, atol=1e-2)


def test_report_counts_patches_on_the_right_side() -> None:
    case = tiny_erasure.Prepared(DoCo, **NOW)
    assert case.method.report() == {}
    case.method._logits = (torch.tensor([1.0, 2.0, -1.0, 3.0]), torch.tensor([-1.0, 1.0]))
    assert case.method.report() == {"accuracy_target": 0.75, "accuracy_anchor": 0.5}


@pytest.mark.parametrize("norm", ["group", "batch"])
def test_a_resumed_run_ends_in_the_same_bits(norm: str, tmp_path: Path) -> None:
    options = {"warm_up": 1, "norm": norm, "depth": 1}
    whole = tiny_erasure.loop(DoCo, options=options, surgery=DocoRef())
    whole.advance(4)
    first = tiny_erasure.loop(DoCo, options=options, surgery=DocoRef(), checkpoint=tmp_path / "c")
    first.advance(2)
    first.save_checkpoint()
    second = tiny_erasure.loop(DoCo, options=options, surgery=DocoRef(), checkpoint=tmp_path / "c")
    second.load_checkpoint()
    second.advance(2)
    assert same(whole.weights.parameters, second.weights.parameters)
    ends = [run.objective.state() for run in (whole, second)]
    assert ends[0].keys() == ends[1].keys()
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])


def test_several_concepts_share_one_discriminator_and_every_batch() -> None:
    asked = tiny_erasure.request(tiny_erasure.CAR, tiny_erasure.VAN_GOGH)
    case = tiny_erasure.Prepared(DoCo, asked=asked, **NOW)
    targets = case.draw()["target"]
    assert ["car" in prompt for prompt in targets] == [True, False] * 2
    assert ["van gogh" in prompt for prompt in targets] == [False, True] * 2
