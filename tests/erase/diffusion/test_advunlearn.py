"""AdvUnlearn's attack and its two losses; without an attack it is ESD on the text encoder."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import tiny_erasure
from oubliette.core.errors import UserError
from oubliette.erase.diffusion.advunlearn import AdvUnlearn
from oubliette.erase.diffusion.esd import ESD
from oubliette.recipe import build_recipe
from oubliette.workflows.estimate import estimate

FAST: dict[str, Any] = {"trajectory_steps": 3, "attack_after": 0, "attack_steps": 4, "kept_per_prompt": 1}


def prepared(**options: Any) -> tiny_erasure.Prepared:
    return tiny_erasure.Prepared(AdvUnlearn, scope="text-encoder", **(FAST | options))


@pytest.mark.parametrize(
    "options", [{"attack_steps": 0}, {"attack_after": 3}], ids=["no steps", "still warming up"]
)
def test_without_an_attack_it_is_esd_on_the_text_encoder(options: dict[str, Any]) -> None:
    plain = tiny_erasure.loop(ESD, steps=3, scope="text-encoder", options={"trajectory_steps": 3})
    same = tiny_erasure.loop(
        AdvUnlearn, steps=3, scope="text-encoder", options={**FAST, "kept_per_prompt": 0, **options}
    )
    for loop in (plain, same):
        loop.run()
    assert any(float(delta.abs().max()) > 0 for delta in plain.weights.delta().values())
    for name, delta in plain.weights.delta().items():
        assert torch.equal(delta, same.weights.delta()[name])


@pytest.mark.parametrize("attack", ["adam", "sign"])
def test_the_attack_lowers_its_loss_and_leaves_the_weights(attack: str) -> None:
    case = prepared(attack=attack, attack_learning_rate=0.01, attack_steps=8, fresh=False, nudge=0.2)
    draw = case.draw()
    before = case.model.fingerprint()
    start = case.model.token_embeddings(draw["tokens"])
    case.method.before(0, draw)
    prefix = draw["prefix"]
    assert prefix.shape == (4, 1, 32)
    assert not prefix.requires_grad
    with torch.no_grad():
        first, last = (float(case.method.attack_loss(at, draw)) for at in (start, prefix))
    assert last < first
    assert case.model.fingerprint() == before
    report = case.method.report()
    assert report["attack_first"] == pytest.approx(first / 4, rel=1e-4)
    assert report["attack_last"] < report["attack_first"]


def test_one_fast_step_is_the_sign_of_the_gradient() -> None:
    case = prepared(attack="sign", attack_steps=1, attack_learning_rate=0.5)
    draw = case.draw()
    start = case.model.token_embeddings(draw["tokens"]).requires_grad_()
    encoded = case.model.encode_embeddings(start, draw["prompts"]).hidden
    unet = case.model.pipe.unet
    gap = unet(draw["noisy"], draw["t"], encoder_hidden_states=encoded).sample - draw["concept"]
    (gradient,) = torch.autograd.grad(gap.pow(2).mean(), start)
    torch.testing.assert_close(case.method.attacked(draw), start - 0.5 * gradient.sign())
    # What is aimed at is the original's prediction for the plain concept.
    with torch.no_grad(), case.weights.originals():
        concept = unet(draw["noisy"], draw["t"], case.model.encode_text(["car"] * 4).hidden).sample
    torch.testing.assert_close(draw["concept"], concept, rtol=1e-4, atol=1e-6)


def test_the_losses_are_the_formulas() -> None:
    case = prepared()
    draw = case.draw()
    case.method.before(0, draw)
    unet, model = case.model.pipe.unet, case.model
    text = model.encode_embeddings(draw["prefix"], ["car"] * 4).hidden
    expected = (unet(draw["noisy"], draw["t"], text).sample - draw["goal"]).pow(2).mean()
    torch.testing.assert_close(case.method.loss("forget", draw), expected)
    reached = case.gradient("forget", draw)
    assert sum(float(each.abs().sum()) for each in reached) > 0
    kept = draw["retain"]
    assert len(kept["prompts"]) == 4
    assert not any("car" in prompt for prompt in kept["prompts"])
    now = unet(kept["noisy"], kept["t"], model.encode_text(kept["prompts"]).hidden).sample
    with torch.no_grad(), case.weights.originals():
        then = unet(kept["noisy"], kept["t"], model.encode_text(kept["prompts"]).hidden).sample
    torch.testing.assert_close(case.method.loss("retain", draw), (now - then).pow(2).mean())
    role = case.method.roles(0)["retain"]
    assert (role.kind, role.weight) == ("retain", 0.3)


def test_the_prefix_is_the_draws_alone() -> None:
    """The same draw gives the same bits, another step another start; the start is among the plain tokens."""
    case = prepared(tokens=2)
    one, same, other = case.draw(0), case.draw(0), case.draw(1)
    assert torch.equal(one["tokens"], same["tokens"])
    assert not torch.equal(one["tokens"], other["tokens"])
    assert not set(one["tokens"].flatten().tolist()) & set(case.model.tokenizers[0].all_special_ids)
    assert torch.equal(case.method.attacked(one), case.method.attacked(same))
    # Where each update meets an x_t of its own, the first is still the step's.
    fixed = prepared(tokens=2, fresh=False)
    assert not torch.equal(case.method.attacked(one), fixed.method.attacked(fixed.draw(0)))


def test_it_moves_whatever_the_scope_is_and_its_passes_are_counted() -> None:
    loop = tiny_erasure.loop(AdvUnlearn, steps=2, options=FAST)
    loop.run()
    assert all(float(delta.abs().max()) > 0 for delta in loop.weights.delta().values())
    assert set(loop.records[-1]["report"]) == {"attack_first", "attack_last"}

    def cost(**options: Any) -> tuple[int, int]:
        recipe = build_recipe(
            {
                "concepts": [{"name": "car", "anchor": "object"}],
                "method": {"name": "advunlearn", "trajectory_steps": 10, "kept_per_prompt": 0, **options},
                "scope": "text-encoder",
                "train": {"steps": 10, "batch": 2},
            }
        )
        found = estimate(loop.model, recipe)
        return found["forwards"], found["backwards"]

    none, fixed, fresh = cost(attack_steps=0), cost(attack_steps=5, fresh=False), cost(attack_steps=5)
    assert (fixed[0] - none[0], fixed[1] - none[1]) == (5 * 20, 5 * 20)
    assert (fresh[0] - fixed[0], fresh[1] - fixed[1]) == (4 * 12 * 20, 0)


def test_a_prefix_that_does_not_fit_is_refused_at_once() -> None:
    with pytest.raises(UserError, match="15 tokens do not fit"):
        prepared(tokens=15)
