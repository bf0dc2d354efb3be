"""Weights of 16 bits are saved from what they are the rounding of."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from oubliette.train.weights import Weights


def trained(weights: Weights, steps: int = 5) -> None:
    """A few updates far below the weights' last bit."""
    masters = weights.masters()
    optimizer = torch.optim.SGD(masters.tensors, lr=1e-5)
    for _ in range(steps):
        masters.take([torch.ones_like(parameter, dtype=torch.float32) for parameter in weights.parameters])
        optimizer.step()
        masters.push()
        weights.enforce_masks()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_an_update_that_rounding_eats_is_there_inside(dtype: torch.dtype) -> None:
    parameter = nn.Parameter(torch.ones(4, 3, dtype=dtype))
    weights = Weights({"w": parameter})
    trained(weights)
    assert torch.equal(parameter, torch.ones(4, 3, dtype=dtype))
    with weights.exact():
        assert parameter.dtype == torch.float32
        assert torch.allclose(parameter, torch.full((4, 3), 1 - 5e-5), atol=1e-7)
    assert parameter.dtype == dtype


def test_weights_of_32_bits_stay_what_they_are() -> None:
    parameter = nn.Parameter(torch.ones(4, 3))
    weights = Weights({"w": parameter})
    trained(weights)
    place = parameter.data_ptr()
    with weights.exact():
        assert parameter.data_ptr() == place


def test_masked_elements_keep_their_originals() -> None:
    parameter = nn.Parameter(torch.ones(2, 2, dtype=torch.bfloat16))
    mask = torch.tensor([[True, False], [False, True]])
    weights = Weights({"w": parameter}, element_masks={"w": mask})
    trained(weights)
    with weights.exact():
        assert torch.equal(parameter != 1, mask)


def test_what_was_undone_or_written_since_stands() -> None:
    parameter = nn.Parameter(torch.ones(2, 2, dtype=torch.bfloat16))
    weights = Weights({"w": parameter})
    with weights.exact():  # never trained
        assert parameter.dtype == torch.bfloat16
    trained(weights, 10_000)
    assert not torch.equal(parameter, torch.ones_like(parameter))
    weights.restore()
    with weights.exact():
        assert parameter.dtype == torch.bfloat16
        assert torch.equal(parameter, torch.ones_like(parameter))
