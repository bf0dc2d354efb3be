"""AdaVD against its formula by the token, as a projection in a limit, and in what the attention reads."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import tiny
import tiny_erasure
from oubliette.backends.diffusion import DiffusionBackend
from oubliette.core.errors import UserError
from oubliette.erase.diffusion.adavd import AdaVD, Decomposition, ValueDecomposer, orthogonal
from oubliette.erase.diffusion.detach import readers

HOW: dict[str, Any] = {"steps": 2, "guidance": 3.0}


def values_of(model: DiffusionBackend) -> tuple[str, ...]:
    return tuple(name for name in model.text_facing() if name.endswith(".to_v.weight"))


def decomposer(model: DiffusionBackend, *words: str, **facts: Any) -> ValueDecomposer:
    published = AdaVD.Options().model_dump()
    return ValueDecomposer(words=words or ("car",), layers=values_of(model), **{**published, **facts})


def decomposition(concepts: torch.Tensor, **facts: float) -> Decomposition:
    q, mixing = orthogonal(concepts)
    return Decomposition(concepts, q, mixing, **{"slope": 100.0, "centre": 0.93, "height": 2.0, **facts})


def rows(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def factor(near: float, slope: float, centre: float, height: float) -> float:
    return height / (1 + math.exp(-slope * (near - centre)))


@pytest.mark.parametrize("shape", [(100.0, 0.93, 2.0), (5.0, 0.1, 1.5)])
def test_one_concept_token_by_token(shape: tuple[float, float, float]) -> None:
    concepts, values = rows(0, 5, 1, 6), rows(1, 3, 5, 6)
    slope, centre, height = shape
    found = decomposition(concepts, slope=slope, centre=centre, height=height).kept(values)
    for b in range(3):
        for position in range(5):
            v, c = values[b, position].double(), concepts[position, 0].double()
            near = float(v @ c / (v.norm() * c.norm()))
            taken = factor(near, slope, centre, height) * float(c @ v / (c @ c)) * c
            expected = v if position == 0 else v - taken
            torch.testing.assert_close(found[b, position].double(), expected, rtol=1e-4, atol=1e-5)


def test_two_concepts_token_by_token() -> None:
    concepts, values = rows(0, 4, 2, 6), rows(1, 2, 4, 6)
    found = decomposition(concepts, slope=4.0, centre=0.2).kept(values)
    for b in range(2):
        for position in range(1, 4):
            v, (c, e) = values[b, position].double(), concepts[position].double()
            share = float(c @ e / (c @ c))
            second = e - share * c
            d = [factor(float(v @ x / (v.norm() * x.norm())), 4.0, 0.2, 2.0) for x in (c, e)]
            taken = float(c @ v / (c @ c)) * d[0] * c
            taken = taken + float(second @ v / (second @ second)) * (d[1] * e - share * d[0] * c)
            torch.testing.assert_close(found[b, position].double(), v - taken, rtol=1e-4, atol=1e-5)


@given(seed=st.integers(0, 10_000), count=st.integers(1, 4))
@settings(max_examples=25, deadline=None)
def test_with_a_factor_of_one_it_is_the_projection_off_their_span(seed: int, count: int) -> None:
    concepts, values = rows(seed, 3, count, 8), rows(seed + 1, 2, 3, 8)
    found = decomposition(concepts, slope=0.0, height=2.0).kept(values)
    for position in (1, 2):
        span = concepts[position].double()
        outside = torch.eye(8).double() - torch.linalg.pinv(span) @ span
        expected = values[:, position].double() @ outside
        torch.testing.assert_close(found[:, position].double(), expected, rtol=1e-3, atol=1e-4)
    assert torch.equal(found[:, 0], values[:, 0])


@given(seed=st.integers(0, 10_000), count=st.integers(1, 5))
@settings(max_examples=25, deadline=None)
def test_gram_and_schmidt(seed: int, count: int) -> None:
    vectors = rows(seed, 2, count, 7).double()
    made, mixing = orthogonal(vectors)
    torch.testing.assert_close(mixing @ vectors, made, rtol=1e-9, atol=1e-9)
    products = made @ made.transpose(1, 2)
    assert float((products - torch.diag_embed(products.diagonal(dim1=1, dim2=2))).abs().max()) < 1e-9
    assert torch.equal(mixing, mixing.tril())
    assert torch.equal(mixing.diagonal(dim1=1, dim2=2), torch.ones(2, count).double())


def test_the_same_concept_twice_is_that_concept() -> None:
    concept, values = rows(0, 4, 1, 6), rows(1, 2, 4, 6)
    twice = torch.cat([concept, 2 * concept], dim=1)
    one, two = decomposition(concept).kept(values), decomposition(twice).kept(values)
    torch.testing.assert_close(one, two)
    nothing = decomposition(torch.zeros(4, 2, 6)).kept(values)
    assert torch.equal(nothing, values)


def read_values(model: DiffusionBackend, monkeypatch: pytest.MonkeyPatch) -> dict[str, torch.Tensor]:
    """The values (B, L, d) that every cross-attention of one guided step reads, by its projection's name."""
    seen: dict[str, torch.Tensor] = {}
    reading: list[str] = []
    plain = torch.nn.functional.scaled_dot_product_attention

    def watch(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, *args: Any, **more: Any) -> Any:
        if reading:
            seen[reading.pop()] = value.transpose(1, 2).flatten(2)
        return plain(query, key, value, *args, **more)

    handles = [
        model.modules()["unet"]
        .get_submodule(name.removeprefix("unet.").removesuffix(".to_v.weight"))
        .register_forward_pre_hook(lambda *_, name=name: reading.append(name))
        for name in values_of(model)
    ]
    with monkeypatch.context() as patch:
        patch.setattr(torch.nn.functional, "scaled_dot_product_attention", watch)
        guide = model.guide(["a red car", "a dog"], guidance=3.0, steps=2)
        with torch.no_grad():
            guide(0, torch.tensor(500), torch.zeros(2, *model.latent_shape))
    for handle in handles:
        handle.remove()
    return seen


@pytest.mark.parametrize("vector", ["text", "joint"])
def test_the_attention_reads_the_decomposed_values(vector: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_erasure.backend()
    before = read_values(model, monkeypatch)
    soft: dict[str, Any] = {"slope": 3.0, "centre": 0.2}
    model.attach(decomposer(model, "car", "ada lovelace", vector=vector, **soft))
    after = read_values(model, monkeypatch)
    modules = readers(model, values_of(model))
    assert set(before) == set(after) == set(values_of(model))
    text, empty = model.encode_text(["car", "ada lovelace"]), model.encode_text([""])
    last = torch.stack([text.hidden[0, 1], text.hidden[1, int(text.last_token[1])]])
    for name, module in zip(values_of(model), modules, strict=True):
        was, now = before[name], after[name]
        own = module(last)[None].expand(16, -1, -1)
        blank, full = was.chunk(2)
        if vector == "text":
            expected = torch.cat([blank, decomposition(own, **soft).kept(full)])
        else:
            both = torch.cat([module(empty.hidden[0])[:, None].expand(-1, 2, -1), own], dim=-1)
            kept = decomposition(both, **soft).kept(torch.cat([blank, full], dim=-1))
            expected = torch.cat(kept.chunk(2, dim=-1))
        torch.testing.assert_close(now, expected, rtol=1e-4, atol=1e-5)
        assert not torch.allclose(now, was)
        assert not module._forward_hooks


def test_the_bare_name_is_turned_round() -> None:
    """At the concept's own token the cosine is 1 and d almost 2: v - 2 v."""
    model = tiny_erasure.backend()
    text = model.encode_text(["car"])
    module = readers(model, values_of(model))[0]
    value = module(text.hidden)
    own = value[0, 1][None, None].expand(16, -1, -1)
    kept = decomposition(own).kept(value)
    torch.testing.assert_close(
        kept[0, 1], (1 - factor(1.0, 100, 0.93, 2)) * value[0, 1], rtol=1e-4, atol=1e-5
    )


def test_without_height_nothing_changes_a_bit() -> None:
    model = tiny_erasure.backend()
    plain = model.draw_latents(["a car"], [1], **HOW)
    model.attach(decomposer(model, height=0.0))
    assert torch.equal(model.draw_latents(["a car"], [1], **HOW), plain)


@pytest.mark.parametrize("vector", ["text", "joint"])
def test_it_draws_without_guidance_and_with_two_text_encoders(vector: str) -> None:
    for pipe in (tiny.pipeline(), tiny.xl_pipeline()):
        model = DiffusionBackend.from_pipeline(pipe)
        for guidance in (1.0, 3.0):
            plain = model.draw_latents(["a car"], [1], steps=2, guidance=guidance)
            model.attach(decomposer(model, vector=vector, centre=0.0))
            assert not torch.equal(model.draw_latents(["a car"], [1], steps=2, guidance=guidance), plain)
            model.detach()


def test_it_works_on_the_value_projections_of_its_scope_alone() -> None:
    model = tiny_erasure.backend()
    method = AdaVD(AdaVD.Options(), tiny_erasure.request())
    part = [name for name in model.text_facing() if "down_blocks" in name]
    made = method.attachment(model, None, part)  # type: ignore[arg-type]
    assert made.layers == tuple(name for name in part if name.endswith("to_v.weight"))
    keys = [name for name in model.text_facing() if name.endswith("to_k.weight")]
    with pytest.raises(UserError, match="the scope holds none of their projections"):
        method.attachment(model, None, keys)  # type: ignore[arg-type]


def test_a_layer_that_the_model_lacks_is_named() -> None:
    model = tiny_erasure.backend()
    wrong = decomposer(model).model_copy(update={"layers": ("unet.attn2.to_v.weight",)})
    model.attach(wrong)
    with pytest.raises(UserError, match=r"has no tensor 'unet\.attn2\.to_v\.weight'"):
        model.draw(["a car"], [1], **HOW)
