"""EraseDiff's inner run: its value in closed form, the weights' bits, and what it changes."""

from __future__ import annotations

import pytest
import torch

import tiny_erasure
from oubliette.erase.diffusion.erasediff import EraseDiff
from oubliette.erase.diffusion.salun import SalUn
from oubliette.recipe import build_recipe
from oubliette.workflows.estimate import estimate


def test_the_inner_runs_value_on_a_quadratic_is_the_closed_form() -> None:
    """f = a/2 ||w - m||^2: K steps of gradient descent leave (1 - a rate)^2K f."""
    case = tiny_erasure.Prepared(
        EraseDiff, inner_optimizer="sgd", inner_learning_rate=0.1, inner_steps=3, scope="xattn"
    )
    curve = 0.7
    goals = [torch.full_like(each, 0.3) for each in case.weights.parameters]

    def quadratic(draw: object) -> torch.Tensor:
        pairs = zip(case.weights.parameters, goals, strict=True)
        return curve / 2 * torch.stack([(each - goal).pow(2).sum() for each, goal in pairs]).sum()

    case.method.forget_loss = quadratic
    now = float(quadratic(None).detach())
    least = case.method.least(case.draw())
    assert float(least) == pytest.approx((1 - curve * 0.1) ** 6 * now, rel=1e-5)
    assert not least.requires_grad


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_the_inner_run_lowers_the_loss_and_returns_every_bit(optimizer: str) -> None:
    case = tiny_erasure.Prepared(
        EraseDiff, inner_optimizer=optimizer, inner_learning_rate=1e-3 if optimizer == "adam" else 0.1
    )
    draw = case.draw()
    held = [each.detach().clone() for each in case.weights.parameters]
    places = [each.data_ptr() for each in case.weights.parameters]
    before = case.model.fingerprint()
    case.method.before(0, draw)
    assert all(torch.equal(a, b) for a, b in zip(held, case.weights.parameters, strict=True))
    assert places == [each.data_ptr() for each in case.weights.parameters]
    assert case.model.fingerprint() == before
    loss = case.method.loss("forget", draw)
    assert 0 < float(draw["least"]) < float(case.method.forget_loss(draw))
    torch.testing.assert_close(loss, case.method.forget_loss(draw) - draw["least"])


def test_the_inner_run_changes_what_is_logged_and_no_update() -> None:
    """f_K is a constant: without it the same bits; with alpha = lambda = 1 that is SalUn without its mask."""
    with_run = tiny_erasure.loop(EraseDiff, steps=3, options={"inner_learning_rate": 1e-3})
    without = tiny_erasure.loop(EraseDiff, steps=3, options={"inner_steps": 0})
    salun = tiny_erasure.loop(SalUn, steps=3, options={"alpha": 1.0})
    for loop in (with_run, without, salun):
        loop.run()
    for name, delta in without.weights.delta().items():
        assert torch.equal(delta, with_run.weights.delta()[name])
        assert torch.equal(delta, salun.weights.delta()[name])
    pairs = zip(with_run.records, without.records, strict=True)
    assert all(one["loss"]["forget"] < other["loss"]["forget"] for one, other in pairs)


def test_lambda_is_the_forget_roles_weight_and_the_passes_are_counted() -> None:
    case = tiny_erasure.Prepared(EraseDiff, forget_weight=0.1)
    roles = case.method.roles(0)
    assert (roles["forget"].weight, roles["prior"].weight) == (0.1, 1.0)

    def cost(steps: int) -> tuple[int, int]:
        recipe = build_recipe(
            {
                "concepts": [{"name": "car", "anchor": "object"}],
                "method": {"name": "erasediff", "inner_steps": steps},
                "scope": "xattn-kv",
                "train": {"steps": 10, "batch": 4},
            }
        )
        found = estimate(case.model, recipe)
        return found["forwards"], found["backwards"]

    assert cost(2)[0] - cost(0)[0] == 3 * 40
    assert cost(2)[1] - cost(0)[1] == 2 * 40
