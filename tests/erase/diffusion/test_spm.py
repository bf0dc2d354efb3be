"""SPM's two losses, its random anchors, and what its preset's scope selects."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

import tiny
import tiny_erasure
from oubliette.backends.diffusion import DiffusionBackend
from oubliette.core.errors import UserError
from oubliette.core.validation import validated
from oubliette.erase.diffusion.spm import SPM, anchor_like
from oubliette.recipe import load_recipe
from oubliette.train.adapters import Adapters, layers_in
from oubliette.train.config import TrainConfig
from oubliette.train.loop import Loop
from oubliette.train.scope import select

FAST = {"trajectory_steps": 3, "anchors": 2}


def said(
    case: tiny_erasure.Prepared, noisy: torch.Tensor, t: torch.Tensor, hidden: torch.Tensor
) -> torch.Tensor:
    """The network's output as diffusers calls it."""
    return case.model.pipe.unet(noisy, t, encoder_hidden_states=hidden).sample


def test_the_target_is_the_formula_of_the_original_network() -> None:
    case = tiny_erasure.Prepared(SPM, eta=1.5, **FAST)
    draw = case.draw()
    assert draw["prompts"] == ["car"] * 4
    with torch.no_grad(), case.weights.originals():
        empty, concept = (
            said(case, draw["noisy"], draw["t"], case.model.encode_text([prompt] * 4).hidden)
            for prompt in ("", "car")
        )
    torch.testing.assert_close(draw["goal"], empty - 1.5 * (concept - empty), rtol=1e-4, atol=1e-5)
    mine = said(case, draw["noisy"], draw["t"], case.model.encode_text(["car"] * 4).hidden)
    torch.testing.assert_close(case.method.loss("forget", draw), (mine - draw["goal"]).square().mean())


def test_a_neutral_prompt_takes_the_empty_ones_place() -> None:
    case = tiny_erasure.Prepared(SPM, neutral="object", eta=0.0, anchoring=0.0, **FAST)
    draw = case.draw()
    assert set(case.method.roles(0)) == {"forget"}
    with torch.no_grad(), case.weights.originals():
        neutral = said(case, draw["noisy"], draw["t"], case.model.encode_text(["object"] * 4).hidden)
    torch.testing.assert_close(draw["goal"], neutral, rtol=1e-4, atol=1e-6)


def test_anchors_are_held_where_the_original_network_has_them() -> None:
    case = tiny_erasure.Prepared(SPM, **FAST)
    role = case.method.roles(0)["anchoring"]
    assert (role.kind, role.weight) == ("retain", 1000.0)
    draw = case.draw()
    hidden = draw["anchors"].hidden
    assert len(hidden) == 8
    target = float(case.model.encode_text(["car"]).hidden.norm())
    lengths = hidden.flatten(1).norm(dim=1)
    assert float(lengths.min()) >= 0.8 * target
    assert float(lengths.max()) <= 1.2 * target
    twice, when = draw["noisy"].repeat(2, 1, 1, 1), draw["t"].repeat(2)
    with torch.no_grad(), case.weights.originals():
        held = said(case, twice, when, hidden)
    loss = (said(case, twice, when, hidden) - held).square().mean()
    torch.testing.assert_close(case.method.loss("anchoring", draw), loss, rtol=1e-4, atol=1e-9)
    with torch.no_grad(), case.weights.originals():
        assert float(case.method.loss("anchoring", draw)) < 1e-10


def test_trajectories_are_those_of_the_membrane_as_trained_so_far() -> None:
    near, far = (tiny_erasure.Prepared(SPM, nudge=nudge, **FAST) for nudge in (0.0, 0.3))
    steps = [step for step in range(6) if not torch.equal(near.draw(step)["noisy"], far.draw(step)["noisy"])]
    assert steps  # where a trajectory stops at once there is nothing of the network in it
    with far.weights.originals():
        assert all(torch.equal(near.draw(step)["noisy"], far.draw(step)["noisy"]) for step in steps)


def test_directions_are_accepted_with_probability_one_less_the_cosine() -> None:
    row, rng = torch.tensor([[3.0, 0.0]]), torch.Generator().manual_seed(0)
    drawn = torch.cat([anchor_like(row, rng, 0.8, 1.2) for _ in range(6000)])
    lengths = drawn.norm(dim=1)
    assert torch.allclose(torch.stack([lengths.min(), lengths.max()]), torch.tensor([2.4, 3.6]), atol=0.01)
    assert abs(float(lengths.mean()) - 3.0) < 0.02
    # In the plane a direction is an angle, of density proportional to min(1, 1 - cos).
    angle = torch.linspace(-math.pi, math.pi, 100_001, dtype=torch.float64)
    density = (1 - angle.cos()).clamp(max=1)
    for power in (1, 2):
        wanted = float(
            torch.trapezoid(density * angle.cos() ** power, angle) / torch.trapezoid(density, angle)
        )
        assert abs(float(((drawn[:, 0] / lengths) ** power).mean()) - wanted) < 0.03


@pytest.mark.parametrize("make", [tiny.pipeline, tiny.xl_pipeline])
def test_the_presets_scope_is_every_linear_layer_and_convolution_of_the_transformers(make) -> None:
    from diffusers.models.transformers.transformer_2d import Transformer2DModel

    pipe = make()
    model = DiffusionBackend.from_pipeline(pipe)
    wanted = {
        f"unet.{outer}.{inner}.weight"
        for outer, block in pipe.unet.named_modules()
        if isinstance(block, Transformer2DModel)
        for inner, layer in block.named_modules()
        if isinstance(layer, nn.Linear | nn.Conv2d)
    }
    for preset in ("spm", "spm-nano"):
        scope = load_recipe(preset).scope
        assert (scope["rank"], scope["alpha"]) == (1, 1.0)
        assert set(layers_in(model, select(model, scope))) == wanted


def test_what_is_trained_is_a_membrane_of_rank_one() -> None:
    model, asked = tiny_erasure.backend(), tiny_erasure.request()
    from oubliette.erase.prepare import prepare

    named = layers_in(model, select(model, load_recipe("spm").scope))
    weights = Adapters(model, named, rank=1, alpha=1.0, seed=0)
    data = prepare(model, asked, seed=1, show_progress=False)
    config = TrainConfig(steps=2, batch=2, learning_rate=1e-2)
    Loop(model, SPM(SPM.Options(**FAST), asked), data, weights, config, show_progress=False).run()
    moved = {name: delta.flatten(1) for name, delta in weights.delta().items()}
    assert {int(torch.linalg.matrix_rank(delta, rtol=1e-3)) for delta in moved.values()} == {1}


def test_a_second_pooled_embedding_is_random_as_well() -> None:
    case = tiny_erasure.Prepared(SPM, model=DiffusionBackend.from_pipeline(tiny.xl_pipeline()), **FAST)
    draw = case.draw(batch=2)
    own = case.model.encode_text(["car"])
    pooled = draw["anchors"].extra["pooled"]
    assert float(torch.nn.functional.cosine_similarity(pooled, own.extra["pooled"]).max()) < 0.99
    assert torch.equal(draw["anchors"].extra["time_ids"], own.extra["time_ids"].expand(4, -1))
    assert all(torch.isfinite(case.method.loss(role, draw)) for role in case.method.roles(0))


def test_lengths_out_of_order_are_refused() -> None:
    with pytest.raises(UserError, match="longest must not be under shortest"):
        validated(SPM.Options, {"shortest": 1.5}, "method 'spm'")
