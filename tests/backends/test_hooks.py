"""Blocks by index: what is read is what the library calls hidden states, and what is changed goes on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import tiny_language
from oubliette.backends import open_model
from oubliette.backends.hooks import blocks_of, changed, read
from oubliette.core.errors import UserError
from oubliette.data.questions import QA

ROWS = [QA(question, answer) for question, answer in tiny_language.FORGET]


@pytest.fixture(params=tiny_language.KINDS)
def model(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    return open_model(tiny_language.save(tmp_path / "model", request.param), device="cpu")


def hidden(model: Any, batch: Any) -> Any:
    return model.model(
        input_ids=batch.input_ids, attention_mask=batch.attention_mask, output_hidden_states=True
    ).hidden_states


def test_what_is_read_are_the_librarys_hidden_states(model: Any) -> None:
    batch, blocks = model.encode(ROWS), model.blocks()
    assert len(blocks) == 2
    with torch.no_grad(), read(blocks, [0, -1]) as seen:
        model.predict(batch)
        wanted = hidden(model, batch)
    assert torch.equal(seen[0], wanted[1])
    assert seen[-1].shape == wanted[2].shape
    before = dict(seen)
    model.predict(batch)
    assert all(torch.equal(seen[index], before[index]) for index in before)  # closed: nothing is read


def test_a_change_goes_on_and_nothing_stays_when_the_block_ends(model: Any) -> None:
    batch, blocks = model.encode(ROWS), model.blocks()
    with torch.no_grad():
        plain = model.predict(batch)
        with changed(blocks, {0: lambda output: output}):
            assert torch.equal(model.predict(batch), plain)
        with changed(blocks, {0: lambda output: output + 1.0}), read(blocks, [0]):
            moved = model.predict(batch)
        assert not torch.allclose(moved, plain)
        with changed(blocks, {1: lambda output: output * 0}):
            silent = model.predict(batch)
        assert torch.equal(silent[0, 0], silent[1, 0])  # nothing of the text is left
        assert torch.equal(model.predict(batch), plain)


def test_a_changes_gradient_is_that_of_finite_differences(model: Any) -> None:
    batch, blocks = model.encode(ROWS[:1]), model.blocks()
    with torch.no_grad(), read(blocks, [0]) as seen:
        model.predict(batch)
    delta = torch.zeros_like(seen[0], requires_grad=True)

    def loss(move: torch.Tensor) -> torch.Tensor:
        with changed(blocks, {0: lambda output: output + move}):
            logits = model.model(input_ids=batch.input_ids, attention_mask=batch.attention_mask).logits
        return logits.double().logsumexp(-1).sum()

    (slope,) = torch.autograd.grad(loss(delta), delta)
    direction = slope / slope.norm()  # uphill, where float32 can tell two values apart
    with torch.no_grad():
        step = 1e-2
        numeric = (loss(step * direction) - loss(-step * direction)) / (2 * step)
    assert float((slope * direction).sum()) == pytest.approx(float(numeric), rel=2e-2)


def test_from_the_models_own_embeddings_the_same_comes_out(model: Any) -> None:
    batch = model.encode(ROWS)
    with torch.no_grad():
        assert torch.allclose(model.predict(batch, model.embed(batch)), model.predict(batch), atol=1e-6)


def test_a_block_that_is_not_there_and_a_shape_that_changes(model: Any) -> None:
    blocks = model.blocks()
    with pytest.raises(UserError, match=r"no block 2: there are 2 \(0 to 1\)"), read(blocks, [2]):
        pass
    with (
        pytest.raises(ValueError, match="keeps the shape"),
        changed(blocks, {0: lambda output: output[:, :1]}),
        torch.no_grad(),
    ):
        model.predict(model.encode(ROWS))
    with pytest.raises(UserError, match="has no list of 5 blocks of one kind"):
        blocks_of(model.model, 5)


def test_a_unets_blocks_are_down_middle_up(tiny_pipeline: Any) -> None:
    unet = tiny_pipeline.unet
    assert blocks_of(unet) == [*unet.down_blocks, unet.mid_block, *unet.up_blocks]
