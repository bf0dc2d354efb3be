"""The mask's gradient: against autograd through the mixed weights, and what it costs in memory."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.func import functional_call

from attack.attacked import assert_untouched, diffusion, snapshot
from guard.learning import answers, cars, dogs, problem, talk
from oubliette.core.errors import UserError
from oubliette.guard.learn.draws import Picked, rng_for
from oubliette.guard.learn.problem import Problem
from oubliette.guard.learn.slopes import each_gradient, gathered, slopes

TEMPERATURE = 0.3


class _Mixed(nn.Module):
    """Stands in for a network whose weights are a function of the mask."""

    def __init__(self, network: nn.Module, weights: dict[str, torch.Tensor]) -> None:
        super().__init__()
        object.__setattr__(self, "_network", network)
        self.weights, self.config = weights, getattr(network, "config", None)

    def parameters(self, recurse: bool = True) -> Any:
        return self._network.parameters(recurse)

    def forward(self, *inputs: Any, **named: Any) -> Any:
        return functional_call(self._network, self.weights, inputs, named)


def _by_autograd(found: Problem, holder: Any, attribute: str, prefix: str, picked: Picked, x: torch.Tensor):
    """dL/dx through theta(m) = m theta_pre + (1 - m) theta_ft, m = sigmoid(x / T), by autograd alone."""
    x = x.clone().requires_grad_()
    mask = torch.sigmoid(x / TEMPERATURE)
    weights = {}
    for name, parameter in found.parameters.items():
        pre = parameter.detach()
        tuned = pre - found.difference[name].float()
        m = mask[found.candidates.place[name]]
        weights[name.removeprefix(prefix)] = m * pre + (1 - m) * tuned
    network = getattr(holder, attribute)
    vars(holder)[attribute] = _Mixed(network, weights)
    try:
        (gradient,) = torch.autograd.grad(picked.loss(found.model), x)
    finally:
        vars(holder)[attribute] = network
    return gradient.double()


@pytest.mark.parametrize("each", ["weight", "tensor"])
def test_the_closed_form_is_autograd_on_a_unet(each):
    found = problem(each=each)
    data = found.illegal[0]
    picked = Picked(data, data.draw(rng_for(0, "batch"), 2))
    x = torch.randn(len(found.candidates), generator=rng_for(0, "x"))
    expected = _by_autograd(found, found.model, "_denoiser", "unet.", picked, x)
    _assert_closed_form(found, picked, x, expected)


def test_the_closed_form_is_autograd_on_a_language_model():
    model = talk()
    wrong, right = answers(model)
    found = problem(model, illegal=[wrong], innocent=[right])
    picked = Picked(wrong, wrong.draw(rng_for(0, "batch"), 2))
    x = torch.randn(len(found.candidates), generator=rng_for(1, "x"))
    expected = _by_autograd(found, model, "model", "", picked, x)
    _assert_closed_form(found, picked, x, expected)


def _assert_closed_form(found: Problem, picked: Picked, x: torch.Tensor, expected: torch.Tensor) -> None:
    mask = torch.sigmoid(x / TEMPERATURE)
    with found.mixed() as mixed:
        mixed.hold(mask)
        _, slope = slopes(found, picked)
    closed = slope * (mask * (1 - mask) / TEMPERATURE).double()
    assert expected.abs().max() > 1e-4
    torch.testing.assert_close(closed, expected, rtol=2e-3, atol=2e-6)


def test_a_text_encoder_is_a_scope_like_any_other():
    found = problem(scope="text-encoder")
    data = found.illegal[0]
    picked = Picked(data, data.draw(rng_for(0, "batch"), 2))
    before = snapshot(found.model)
    loss, slope = slopes(found, picked)
    assert_untouched(found.model, before)
    parameters = list(found.parameters.values())
    for parameter in parameters:
        parameter.requires_grad_(True)
    again = picked.loss(found.model)
    gradients = torch.autograd.grad(again, parameters, allow_unused=True)
    expected = torch.zeros_like(slope)
    for name, gradient in zip(found.parameters, gradients, strict=True):
        if gradient is not None:
            expected[found.candidates.place[name]] += float(
                (gradient.double() * found.difference[name].double()).sum()
            )
    assert loss == pytest.approx(float(again.detach()))
    torch.testing.assert_close(slope, expected, rtol=1e-4, atol=1e-7)


def test_one_gradient_lives_at_a_time_and_all_are_whole():
    """The only tests that a publisher's step never holds full gradients: they are counted as they come."""
    found = problem()
    data = found.illegal[0]
    picked = Picked(data, data.draw(rng_for(0, "batch"), 2))
    parameters = found.parameters
    for parameter in parameters.values():
        parameter.requires_grad_(True)
    whole = dict(
        zip(parameters, torch.autograd.grad(picked.loss(found.model), list(parameters.values())), strict=True)
    )
    alive: list[int] = []
    seen: dict[str, torch.Tensor] = {}

    def count(_: torch.Tensor) -> None:
        alive.append(sum(parameter.grad is not None for parameter in parameters.values()))

    # Registered first, so called first: it sees what has accumulated before the gradient is dropped.
    handles = [parameter.register_post_accumulate_grad_hook(count) for parameter in parameters.values()]
    with each_gradient(found.model, parameters, lambda name, gradient: seen.update({name: gradient.clone()})):
        picked.loss(found.model).backward()
        assert all(parameter.grad is None for parameter in parameters.values())
    for handle in handles:
        handle.remove()
    assert alive == [1] * len(parameters)
    assert seen.keys() == whole.keys()
    assert all(torch.equal(seen[name], whole[name]) for name in whole)


def test_flags_and_gradients_of_others_come_back():
    found = problem()
    some = next(iter(found.parameters.values()))
    some.requires_grad_(True)
    some.grad = torch.ones_like(some)
    data = found.illegal[0]
    picked = Picked(data, data.draw(rng_for(0, "batch"), 2))
    slopes(found, picked)
    assert some.requires_grad
    assert torch.equal(some.grad, torch.ones_like(some))
    others = [p for m in found.model.modules().values() for p in m.parameters() if p is not some]
    assert not any(p.requires_grad or p.grad is not None for p in others)
    assert not any(getattr(p, "_post_accumulate_grad_hooks", None) for p in (some, *others))


def test_what_is_not_finite_is_one_line():
    found = problem()

    class Broken:
        def draw(self, rng, count):
            return None

        def loss(self, model, batch):
            return next(iter(model.tensors().values())).sum() * float("nan")

    with pytest.raises(UserError, match=r"guard at step 3: the loss is not finite"):
        slopes(found, Picked(Broken(), None), " at step 3")
    picked = Picked(found.illegal[0], found.illegal[0].draw(rng_for(0), 2))
    with pytest.raises(UserError, match=r"the gradient of unet\.\S+ is not finite"):
        gathered(found, picked, lambda _, gradient: gradient.sum() / 0)


def test_a_loss_beyond_the_scope_is_one_line():
    found = problem(scope="re:text_encoder.*position_embedding")

    class Beyond:
        def draw(self, rng, count):
            return None

        def loss(self, model, batch):
            return torch.ones(())

    with pytest.raises(UserError, match="reaches none of the 1 tensors in scope"):
        slopes(found, Picked(Beyond(), None))


def test_bf16_passes_are_near_fp32_ones():
    model = diffusion()
    sides = {"illegal": [cars(model)], "innocent": [dogs(model)]}
    data = sides["illegal"][0]
    picked = Picked(data, data.draw(rng_for(0, "batch"), 2))
    loss, slope = slopes(problem(model, **sides), picked)
    near, rough = slopes(problem(model, **sides, precision="bf16"), picked)
    assert near == pytest.approx(loss, rel=2e-2)
    assert near != loss
    assert float((slope - rough).norm() / slope.norm()) < 0.1
