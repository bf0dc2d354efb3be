"""Text embeddings are the pipeline's own, cached only as long as that is right."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import tiny
from oubliette.backends.diffusion import DiffusionBackend
from oubliette.core.errors import UserError

PROMPTS = ["a photo of a car", "van gogh", ""]


@pytest.fixture
def model(tiny_folder: Path) -> DiffusionBackend:
    return DiffusionBackend.open(tiny_folder, device="cpu")


def test_equals_the_pipeline(model: DiffusionBackend, tiny_pipeline: Any) -> None:
    theirs, _ = tiny_pipeline.encode_prompt(PROMPTS, "cpu", 1, False)
    torch.testing.assert_close(model.encode_text(PROMPTS).hidden, theirs)
    torch.testing.assert_close(model.encode_text(PROMPTS, grad=True).hidden, theirs)


def test_last_token_is_the_last_word(model: DiffusionBackend) -> None:
    text = model.encode_text(PROMPTS)
    lengths = [len(model.pipe.tokenizer(prompt).input_ids) for prompt in PROMPTS]
    assert text.length.tolist() == lengths
    assert text.last_token.tolist() == [length - 2 for length in lengths]
    ids = model.pipe.tokenizer(PROMPTS[0]).input_ids
    assert model.pipe.tokenizer.decode([ids[5]]).strip() == "car"


def test_long_prompts_are_cut_with_their_end_token(model: DiffusionBackend) -> None:
    text = model.encode_text(["a red car " * 20])
    assert text.hidden.shape == (1, 16, 32)
    assert text.length.item() == 16


def test_a_row_does_not_depend_on_its_neighbours(model: DiffusionBackend, tiny_folder: Path) -> None:
    other = DiffusionBackend.open(tiny_folder, device="cpu")
    assert torch.equal(model.encode_text(PROMPTS).hidden[0], other.encode_text(PROMPTS[:1]).hidden[0])


def test_the_cache_is_used_and_dropped_when_the_encoder_changes(model: DiffusionBackend) -> None:
    calls: list[int] = []
    model.pipe.text_encoder.register_forward_hook(lambda *_: calls.append(1))
    first = model.encode_text(["a car", "a car"])
    again = model.encode_text(["a car"])
    assert len(calls) == 1
    assert torch.equal(first.hidden[1], again.hidden[0])
    weight = model.pipe.text_encoder.final_layer_norm.weight
    with torch.no_grad():
        weight.mul_(2)
    assert not torch.equal(model.encode_text(["a car"]).hidden, again.hidden)
    weight.data = weight.data / 2
    torch.testing.assert_close(model.encode_text(["a car"]).hidden, again.hidden)
    assert len(calls) == 3


def test_nothing_is_cached_while_the_encoder_is_trained(model: DiffusionBackend) -> None:
    weight = model.pipe.text_encoder.final_layer_norm.weight
    before = model.encode_text(["a car"])
    weight.requires_grad_(True)
    weight.data.mul_(2)
    during = model.encode_text(["a car"])
    assert not torch.equal(before.hidden, during.hidden)
    assert not during.hidden.requires_grad
    graph = model.encode_text(["a car"], grad=True)
    assert torch.autograd.grad(graph.hidden.sum(), weight)[0].abs().sum() > 0


def test_autocast_does_not_reach_the_cache(model: DiffusionBackend) -> None:
    with torch.autocast("cpu", torch.bfloat16):
        inside = model.encode_text(["a truck"])
    assert inside.hidden.dtype == torch.float32


def test_rows_are_picked_and_repeated(model: DiffusionBackend) -> None:
    text = model.encode_text(PROMPTS)
    picked = text.index([2, 0])
    assert torch.equal(picked.hidden, text.hidden[[2, 0]])
    assert picked.length.tolist() == text.length[[2, 0]].tolist()
    assert torch.equal(text.repeat(2).hidden, torch.cat([text.hidden] * 2))
    assert len(text.index(slice(0, 2))) == 2


def test_one_string_is_no_batch(model: DiffusionBackend) -> None:
    with pytest.raises(TypeError, match="one string"):
        model.encode_text("a car")


def test_tokens_by_number_are_the_prompt_they_spell(model: DiffusionBackend) -> None:
    """Positions, mask, padding and cutting are the tokenizer's, for a short prompt, none, one too long."""
    tails = ["of a car", "", "a red car by a house on a street near a big dog"]
    ids = torch.tensor([model.tokenizers[0]("a photo", add_special_tokens=False).input_ids] * 3)
    found = model.encode_tokens(ids, tails)
    expected = model.encode_text([f"a photo {tail}" for tail in tails])
    assert torch.allclose(found.hidden, expected.hidden, atol=1e-6)
    assert found.length.tolist() == expected.length.tolist()
    assert found.last_token.tolist() == expected.last_token.tolist()


def test_one_hot_weights_are_the_tokens_and_carry_a_gradient(model: DiffusionBackend) -> None:
    ids = torch.tensor([model.tokenizers[0]("a photo", add_special_tokens=False).input_ids])
    rows = len(model.tokenizers[0].get_vocab())
    weights = torch.nn.functional.one_hot(ids, rows).float().requires_grad_()
    found = model.encode_tokens(weights, ["of a car"])
    torch.testing.assert_close(found.hidden, model.encode_text(["a photo of a car"]).hidden)
    (gradient,) = torch.autograd.grad(found.hidden[:, 1:].square().sum(), weights)
    assert gradient.abs().sum() > 0
    # Nothing stays behind: the encoder looks tokens up as before.
    torch.testing.assert_close(model.encode_tokens(ids, ["of a car"]).hidden, found.hidden)
    assert not model.pipe.text_encoder.get_input_embeddings()._forward_hooks


def test_mixed_weights_are_the_weighted_sum_of_embeddings(model: DiffusionBackend) -> None:
    """Half a car and half a house at one place, against the encoder run by hand on such an embedding."""
    encoder, tokenizer = model.pipe.text_encoder, model.tokenizers[0]
    car, house = tokenizer("car house", add_special_tokens=False).input_ids
    weights = torch.zeros(1, 1, len(tokenizer.get_vocab()))
    weights[0, 0, [car, house]] = 0.5
    found = model.encode_tokens(weights, ["on a street"]).hidden

    table = encoder.get_input_embeddings()
    kept = table.weight.detach().clone()
    try:
        with torch.no_grad():
            table.weight[car] = (kept[car] + kept[house]) / 2
        expected = model.encode_text(["car on a street"]).hidden
    finally:
        with torch.no_grad():
            table.weight.copy_(kept)
    torch.testing.assert_close(found, expected)


def test_two_encoders_take_the_same_tokens() -> None:
    model = DiffusionBackend.from_pipeline(tiny.xl_pipeline())
    ids = torch.tensor([model.tokenizers[0]("a photo", add_special_tokens=False).input_ids])
    weights = torch.nn.functional.one_hot(ids, len(model.tokenizers[0].get_vocab())).float()
    expected = model.encode_text(["a photo of a car"])
    for tokens in (ids, weights):
        found = model.encode_tokens(tokens, ["of a car"])
        torch.testing.assert_close(found.hidden, expected.hidden)
        torch.testing.assert_close(found.extra["pooled"], expected.extra["pooled"])
        assert torch.equal(found.extra["time_ids"], expected.extra["time_ids"])


def test_a_prefix_of_the_tokens_own_embeddings_is_the_tokens(model: DiffusionBackend) -> None:
    tails = ["of a car", "", "a red car by a house on a street near a big dog"]
    ids = torch.tensor([model.tokenizers[0]("a photo", add_special_tokens=False).input_ids] * 3)
    prefix = model.token_embeddings(ids)
    assert prefix.shape == (3, 2, 32)
    found, expected = model.encode_embeddings(prefix, tails), model.encode_tokens(ids, tails)
    assert torch.equal(found.hidden, expected.hidden)
    assert found.length.tolist() == expected.length.tolist()
    assert found.last_token.tolist() == expected.last_token.tolist()
    nothing = model.encode_embeddings(prefix[:, :0], tails)
    torch.testing.assert_close(nothing.hidden, model.encode_text(tails).hidden)


def test_a_prefix_has_a_graph_to_itself_and_to_the_weights(model: DiffusionBackend) -> None:
    """The prefix's gradient against differences, and a weight's that is asked for."""
    weight = model.pipe.text_encoder.final_layer_norm.weight
    prefix = torch.randn(1, 2, 32, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    model.pipe.text_encoder.double()

    def loss(at: torch.Tensor) -> torch.Tensor:
        return model.encode_embeddings(at, ["of a car"]).hidden.square().sum(dim=1)[0, 3]

    assert torch.autograd.gradcheck(loss, [prefix.requires_grad_()], atol=1e-6)
    weight.requires_grad_(True)
    first, second = torch.autograd.grad(loss(prefix), [prefix, weight])
    assert first.abs().sum() > 0
    assert second[3] != 0


def test_two_encoders_take_their_own_channels_of_a_prefix() -> None:
    model = DiffusionBackend.from_pipeline(tiny.xl_pipeline())
    ids = torch.tensor([model.tokenizers[0]("a photo", add_special_tokens=False).input_ids])
    prefix = model.token_embeddings(ids)
    assert prefix.shape == (1, 2, 32 + 16)
    found, expected = model.encode_embeddings(prefix, ["of a car"]), model.encode_text(["a photo of a car"])
    torch.testing.assert_close(found.hidden, expected.hidden)
    torch.testing.assert_close(found.extra["pooled"], expected.extra["pooled"])
    with pytest.raises(ValueError, match="48 channels, found 32"):
        model.encode_embeddings(prefix[..., :32], ["of a car"])


def test_tokens_that_cannot_be_given_are_refused() -> None:
    model = DiffusionBackend.from_pipeline(tiny.xl_pipeline())
    with pytest.raises(UserError, match="at most 14"):
        model.encode_tokens(torch.full((1, 15), 5), ["a car"])
    with pytest.raises(UserError, match="at most 14"):
        model.encode_embeddings(torch.zeros(1, 15, 48), ["a car"])
    model.pipe.tokenizer_2.add_tokens(["<thing>"])
    with pytest.raises(UserError, match="number tokens differently"):
        model.encode_tokens(torch.full((1, 2), 5), ["a car"])
    with pytest.raises(UserError, match="number tokens differently"):
        model.token_embeddings(torch.full((1, 2), 5))
