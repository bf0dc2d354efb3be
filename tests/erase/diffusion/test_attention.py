"""Reading the cross-attention: against its own formula, without touching what the network puts out."""

from __future__ import annotations

import pytest
import torch

import tiny_erasure
from oubliette.core.errors import UserError
from oubliette.erase.diffusion.attention import attention_layers, token_map, token_positions, watching


@pytest.fixture(scope="module")
def model():
    return tiny_erasure.backend()


def passed(model, prompts=("a car", "a red car")):
    rng = torch.Generator().manual_seed(0)
    noisy = torch.randn(len(prompts), *model.latent_shape, generator=rng)
    return model.predict(noisy, 7, model.encode_text(list(prompts)))


def test_the_probabilities_are_those_of_the_attention_itself(model) -> None:
    name, layer = next(iter(attention_layers(model).items()))
    kept = {}

    def keep(module, inputs, options, output):
        kept["in"], kept["text"], kept["out"] = inputs[0], options["encoder_hidden_states"], output

    handle = layer.register_forward_hook(keep, with_kwargs=True)
    with torch.no_grad(), watching(attention_layers(model)) as seen:
        passed(model)
    handle.remove()
    mine = next(each for each in seen if each.layer == name)
    heads = layer.heads
    assert mine.probabilities.shape == (2, heads, kept["in"].shape[1], kept["text"].shape[1])
    assert torch.allclose(mine.probabilities.sum(-1), torch.ones(()), atol=1e-5)
    values = layer.to_v(kept["text"]).unflatten(-1, (heads, -1)).transpose(1, 2)
    mixed = (mine.probabilities @ values).transpose(1, 2).flatten(-2)
    assert torch.allclose(layer.to_out[0](mixed), kept["out"], atol=1e-5)


def test_watching_leaves_the_output_alone_and_ends(model) -> None:
    with torch.no_grad():
        before = passed(model)
        with watching(attention_layers(model)) as seen:
            assert torch.equal(passed(model), before)
        count = len(seen)
        assert count == len(attention_layers(model))
        passed(model)
    assert len(seen) == count


def test_the_graph_runs_back_to_keys_and_queries_of_the_named_layers_alone(model) -> None:
    names = model.text_facing()
    chosen = [name for name in names if name.endswith("to_k.weight")][:1]
    weight = model.tensors()[chosen[0]]
    weight.requires_grad_()
    try:
        with watching(attention_layers(model, chosen)) as seen:
            passed(model)
        assert len(seen) == 1
        loss = seen[0].probabilities[:, :, :, 1].square().sum()
        (gradient,) = torch.autograd.grad(loss, [weight])
        assert gradient.abs().sum() > 0
    finally:
        weight.requires_grad_(False)


def test_a_token_map_is_the_mean_over_heads_layers_and_tokens(model) -> None:
    with torch.no_grad(), watching(attention_layers(model, model.text_facing()[:2])) as seen:
        passed(model)
    (one,) = seen
    got = token_map(seen, [[1, 2], [2]], one.side)
    by_hand = one.probabilities[0].mean(0)[:, 1:3].mean(-1).reshape(one.side, one.side)
    assert torch.allclose(got[0], by_hand)
    assert token_map(seen, [[1], [2]], 2 * one.side).shape == (2, 2 * one.side, 2 * one.side)


def test_positions_are_found_by_tokens(model) -> None:
    assert token_positions(model, ["a car", "a red car and a car"], [["car"]] * 2)[0] == [2]
    both = token_positions(model, ["a car", "a red car and a car"], [["car"]] * 2)[1]
    ids = model.tokenizers[0]("a red car and a car").input_ids
    car = model.tokenizers[0]("car", add_special_tokens=False).input_ids
    assert [ids[at] for at in both] == car * 2
    assert token_positions(model, ["a red coupe"], [["car", "coupe"]])
    with pytest.raises(UserError, match="does not hold the tokens of 'boat'"):
        token_positions(model, ["a car"], [["boat"]])
