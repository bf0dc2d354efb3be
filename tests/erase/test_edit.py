"""Edits are applied all or not at all, in place, rounded once."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from oubliette.erase.edit import Edit, apply_edits
from oubliette.errors import UserError


def named(dtype: torch.dtype = torch.float32) -> dict[str, nn.Parameter]:
    return {name: nn.Parameter(torch.ones(2, 3, dtype=dtype), requires_grad=False) for name in ("a", "b")}


def test_edits_are_added_in_place() -> None:
    tensors = named()
    held = tensors["a"]
    assert apply_edits(tensors, [Edit("a", torch.full((2, 3), 0.5, dtype=torch.float64))]) == ("a",)
    assert tensors["a"] is held
    assert held.tolist() == [[1.5] * 3] * 2
    assert tensors["b"].tolist() == [[1.0] * 3] * 2


def test_sixteen_bit_weights_are_rounded_once() -> None:
    tensors = named(torch.bfloat16)
    delta = torch.full((2, 3), 0.00391, dtype=torch.float64)  # just over half a step: lost if rounded first
    apply_edits(tensors, [Edit("a", delta)])
    assert torch.equal(tensors["a"].data, (torch.ones(2, 3, dtype=torch.float64) + delta).bfloat16())
    assert float(tensors["a"].data[0, 0]) > 1


@pytest.mark.parametrize(
    ("edit", "error"),
    [
        (Edit("c", torch.zeros(2, 3)), KeyError),
        (Edit("b", torch.zeros(3, 2)), ValueError),
        (Edit("b", torch.full((2, 3), float("nan"))), UserError),
    ],
)
def test_a_wrong_edit_leaves_every_tensor_as_it_was(edit: Edit, error: type[Exception]) -> None:
    tensors = named()
    with pytest.raises(error):
        apply_edits(tensors, [Edit("a", torch.ones(2, 3)), edit])
    assert all(torch.equal(tensor.data, torch.ones(2, 3)) for tensor in tensors.values())
