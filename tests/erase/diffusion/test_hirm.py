"""HiRM: its loss against a loop over tokens, its directions, and what moves."""

from __future__ import annotations

import pytest
import torch

import tiny
import tiny_erasure
from oubliette.backends.diffusion import DiffusionBackend
from oubliette.core.errors import UserError
from oubliette.erase.diffusion.hirm import HiRM, misdirection
from oubliette.recipe import load_recipe

SCOPE = str(load_recipe("hirm").scope["name"])


def case(**options) -> tiny_erasure.Prepared:
    return tiny_erasure.Prepared(HiRM, scope=SCOPE, **({"nudge": 0.0} | options))


def test_the_loss_is_the_mean_square_over_counted_tokens() -> None:
    rng = torch.Generator().manual_seed(0)
    hidden, goal = torch.randn(2, 5, 3, generator=rng), torch.randn(2, 3, generator=rng)
    counted = torch.tensor([[0, 1, 1, 0, 1], [0, 0, 0, 1, 0]]).float()
    each = []
    for item in range(2):
        apart = [(hidden[item, at] - goal[item]).pow(2).sum() for at in range(5) if counted[item, at]]
        each.append(torch.stack(apart).mean())
    torch.testing.assert_close(misdirection(hidden, goal, counted), torch.stack(each).mean())


def test_goals_are_as_long_as_the_concepts_tokens_and_of_the_seed() -> None:
    one, same, other = case(scale=2.0), case(scale=2.0), case(scale=2.0, seed=4)
    hidden = one.model.encode_text(["car"]).hidden[0, 1:]
    torch.testing.assert_close(one.method._goals.norm(), 2 * hidden.norm(dim=-1).mean())
    assert torch.equal(one.method._goals, same.method._goals)
    assert not torch.equal(one.method._goals, other.method._goals)


def test_tokens_before_the_concept_do_not_count() -> None:
    after, every = case(), case(tokens="all")
    prompts = ["a photo of a car", "car on the street"]
    hidden = after.model.encode_text(prompts).hidden
    assert after.method._counted(prompts, [0, 0], hidden).argmax(1).tolist() == [5, 1]
    assert every.method._counted(prompts, [0, 0], hidden).argmax(1).tolist() == [1, 1]
    # Whatever follows the start token cannot change it: the mask is causal.
    assert torch.equal(hidden[0, 0], hidden[1, 0])


def test_two_concepts_have_goals_of_their_own() -> None:
    asked = tiny_erasure.request(tiny_erasure.CAR, tiny_erasure.VAN_GOGH)
    found = case(asked=asked, prompts="bank")
    draw = found.draw()
    assert draw["concepts"] == [0, 1, 0, 1]
    hidden, counted = found.model.encode_text(draw["prompts"]).hidden, None
    counted = found.method._counted(draw["prompts"], draw["concepts"], hidden)
    wanted = misdirection(hidden, found.method._goals[[0, 1, 0, 1]], counted)
    torch.testing.assert_close(found.method.loss("forget", draw), wanted)


def test_training_moves_the_first_layer_alone_and_brings_the_tokens_nearer() -> None:
    loop = tiny_erasure.loop(HiRM, scope=SCOPE, steps=8, train={"weight_decay": 0.0})
    loop.run()
    losses = [record["loss"]["forget"] for record in loop.records]
    assert losses[-1] < losses[0]
    assert all(".layers.0." in name for name in loop.weights.names)
    assert loop.weights.names


def test_retention_starts_at_nothing_and_holds_the_original_tokens() -> None:
    still, moved = case(retention=True), case(retention=True, nudge=0.05)
    assert moved.method.roles(0)["keep"].kind == "retain"
    assert still.method.loss("keep", still.draw()).item() < 1e-8
    draw = moved.draw()
    with torch.no_grad(), moved.weights.originals():
        held = moved.model.encode_text(draw["kept"]).hidden
    loss = (moved.model.encode_text(draw["kept"]).hidden - held).pow(2).sum(-1).mean()
    torch.testing.assert_close(moved.method.loss("keep", draw), loss, rtol=1e-4, atol=1e-8)
    assert not any("car" in prompt.split() for prompt in draw["kept"])


def test_both_encoders_of_a_larger_model_are_misdirected() -> None:
    found = case(model=DiffusionBackend.from_pipeline(tiny.xl_pipeline()))
    gradients = found.gradient("forget", found.draw())
    named = dict(zip(found.weights.names, gradients, strict=True))
    assert {name.split(".")[0] for name in named} == {"text_encoder", "text_encoder_2"}
    assert all(float(each.abs().sum()) > 0 for name, each in named.items() if "k_proj.bias" not in name)


def test_a_scope_outside_the_text_encoder_is_refused() -> None:
    with pytest.raises(UserError, match="trains the text encoder"):
        tiny_erasure.Prepared(HiRM)
