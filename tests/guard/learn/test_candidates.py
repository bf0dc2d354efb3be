"""Candidates: which tensors a mask may freeze, who follows whom, and what everything weighs."""

from __future__ import annotations

import pytest

from attack.attacked import diffusion
from guard.learning import talk
from oubliette.core.errors import UserError
from oubliette.guard.layers import LAYER_TYPES, block_of, layer_type
from oubliette.guard.learn.candidates import Candidates, followers_of


def test_every_tensor_of_the_scope_belongs_to_exactly_one_candidate():
    for model in (diffusion(), talk()):
        found = Candidates.of(model)
        tensors = model.tensors()
        inside = [tensor for unit in found.units for tensor in unit.tensors]
        assert sorted(inside) == sorted(found.sizes)
        assert len(set(inside)) == len(inside)
        for unit in found.units:
            assert tensors[unit.name].ndim >= 2
            assert unit.tensors[0] == unit.name
            assert all(tensors[name].ndim < 2 for name in unit.tensors[1:])
            assert unit.parameters == sum(tensors[name].numel() for name in unit.tensors)
        assert found.parameters == sum(tensors[name].numel() for name in found.sizes)
        assert found.names == [name for name in tensors if name in set(found.names)]  # the model's order


def test_followers_of_a_unet_stay_in_their_block():
    found = Candidates.of(diffusion())
    of = {tensor: unit.name for unit in found.units for tensor in unit.tensors}
    block = "unet.down_blocks.0.resnets.0."
    assert of[block + "norm1.weight"] == block + "conv1.weight"
    assert of[block + "norm2.bias"] == block + "conv2.weight"
    assert of[block + "conv1.bias"] == block + "conv1.weight"
    attention = "unet.down_blocks.0.attentions.0."
    assert of[attention + "norm.weight"] == attention + "proj_in.weight"
    transformer = attention + "transformer_blocks.0."
    assert of[transformer + "attn1.to_out.0.bias"] == transformer + "attn1.to_out.0.weight"
    assert of["unet.conv_norm_out.weight"] == "unet.conv_out.weight"
    for tensor, weight in of.items():
        if tensor.count(".") > 3:
            assert block_of(tensor) == block_of(weight)


def test_layer_norms_listed_last_follow_their_own_layer():
    found = Candidates.of(talk())
    of = {tensor: unit.name for unit in found.units for tensor in unit.tensors}
    for layer in ("model.layers.0.", "model.layers.1."):
        norms = [of[layer + norm] for norm in ("input_layernorm.weight", "post_attention_layernorm.weight")]
        assert norms == [layer + "mlp.down_proj.weight"] * 2


def test_followers_by_hand():
    dimensions = {
        "a.norm.weight": 1,
        "a.one.weight": 2,
        "a.one.bias": 1,
        "a.two.weight": 4,
        "a.last.weight": 1,
        "b.norm.weight": 1,
        "c.weight": 2,
        "scale": 0,
    }
    assert followers_of(dimensions) == {
        "a.one.weight": ["a.norm.weight", "a.one.bias"],
        "a.two.weight": ["a.last.weight"],
        "c.weight": ["b.norm.weight", "scale"],
    }
    assert followers_of({"a.bias": 1}) == {}


def test_each_tensor_by_itself_is_the_published_set():
    model = diffusion()
    found = Candidates.of(model, each="tensor")
    assert found.names == list(found.sizes) == [name for name in model.tensors() if name.startswith("unet.")]
    assert all(unit.tensors == (unit.name,) for unit in found.units)


def test_shares_and_expansion():
    found = Candidates.of(diffusion())
    unit = found.units[3]
    names = found.expand([unit.name])
    assert sorted(names) == sorted(unit.tensors)
    shares = found.shares(names)
    assert shares.parameters == pytest.approx(unit.parameters / found.parameters)
    assert shares.tensors == pytest.approx(len(unit.tensors) / len(found.sizes))
    whole = found.shares(found.expand(found.names))
    assert (whole.parameters, whole.tensors) == (1, 1)
    with pytest.raises(UserError, match=r"no candidate of the mask; did you mean"):
        found.expand([unit.name + "s"])


def test_scopes():
    model = diffusion()
    assert all("text_encoder" in name for name in Candidates.of(model, "text-encoder").sizes)
    assert all(".attn2.to_" in name for name in Candidates.of(model, {"name": "xattn-kv"}).sizes)
    with pytest.raises(UserError, match="holds no weight of two or more dimensions"):
        Candidates.of(model, "re:norm1")
    with pytest.raises(UserError, match="no scope is called"):
        Candidates.of(model, "xatn")
    with pytest.raises(UserError, match="'weight' or 'tensor'"):
        Candidates.of(model, each="block")


@pytest.mark.parametrize(
    ("name", "dimensions", "kind", "block"),
    [
        ("unet.down_blocks.1.resnets.0.conv1.weight", 4, "convolution", "unet.down_blocks.1"),
        ("unet.down_blocks.1.resnets.0.time_emb_proj.weight", 2, "time", "unet.down_blocks.1"),
        ("unet.mid_block.attentions.0.proj_in.weight", 4, "attention", "unet.mid_block"),
        (
            "unet.up_blocks.2.attentions.0.transformer_blocks.0.ff.net.2.weight",
            2,
            "feed-forward",
            "unet.up_blocks.2",
        ),
        ("unet.conv_in.weight", 4, "convolution", "unet.conv_in"),
        ("unet.time_embedding.linear_1.weight", 2, "time", "unet.time_embedding.linear_1"),
        ("model.layers.3.self_attn.q_proj.weight", 2, "attention", "model.layers.3"),
        ("model.layers.3.mlp.up_proj.weight", 2, "feed-forward", "model.layers.3"),
        ("model.embed_tokens.weight", 2, "embedding", "model.embed_tokens"),
        ("transformer.h.0.attn.c_attn.weight", 2, "attention", "transformer.h.0"),
        (
            "text_encoder.text_model.encoder.layers.1.mlp.fc1.weight",
            2,
            "feed-forward",
            "text_encoder.text_model.encoder.layers.1",
        ),
    ],
)
def test_layer_types_and_blocks(name, dimensions, kind, block):
    assert kind in LAYER_TYPES
    assert layer_type(name, dimensions) == kind
    assert block_of(name) == block
