"""Text embeddings are the pipeline's own, cached only as long as that is right."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from oubliette.backends.diffusion import DiffusionBackend

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
