"""Edits are applied all or not at all, in place, rounded once; by a delta or by its factors."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from oubliette.core.errors import UserError
from oubliette.erase.edit import Edit, apply_edits


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


def test_factors_are_the_delta_that_is_their_product() -> None:
    up, down = torch.tensor([[1.0], [2.0]]).double(), torch.tensor([[1.0, 0.5, -1.0]]).double()
    edit = Edit("a", factors=(up, down))
    assert edit.shape == (2, 3)
    assert torch.equal(edit.delta, up @ down)
    assert edit.factors == (up, down)
    one, other = named(), named()
    apply_edits(one, [edit])
    apply_edits(other, [Edit("a", up @ down)])
    assert torch.equal(one["a"], other["a"])


def test_an_edit_of_rank_none_changes_nothing() -> None:
    tensors = named()
    apply_edits(tensors, [Edit("a", factors=(torch.zeros(2, 0), torch.zeros(0, 3)))])
    assert torch.equal(tensors["a"].data, torch.ones(2, 3))


def test_it_takes_a_delta_or_fitting_factors() -> None:
    up, down = torch.ones(2, 1), torch.ones(1, 3)
    with pytest.raises(ValueError, match="one of them"):
        Edit("a")
    with pytest.raises(ValueError, match="one of them"):
        Edit("a", up @ down, factors=(up, down))
    with pytest.raises(ValueError, match="do not fit"):
        Edit("a", factors=(up, torch.ones(2, 3)))


@pytest.mark.parametrize(
    ("up", "down", "finite"),
    [(1.0, 1.0, True), (1e30, 1e30, False), (float("inf"), 1.0, False), (float("nan"), 1.0, False)],
)
def test_it_knows_whether_it_is_finite(up: float, down: float, finite: bool) -> None:
    factors = torch.full((2, 1), up), torch.full((1, 3), down)
    assert Edit("a", factors=factors).is_finite() is finite
    assert Edit("a", factors[0] @ factors[1]).is_finite() is finite


def test_large_factors_with_a_small_product_are_finite() -> None:
    up, down = torch.tensor([[1e30, 1.0]]), torch.tensor([[1.0], [1e30]])
    assert Edit("a", factors=(up, down)).is_finite()


@pytest.mark.parametrize(
    ("edit", "error"),
    [
        (Edit("c", torch.zeros(2, 3)), KeyError),
        (Edit("b", torch.zeros(3, 2)), ValueError),
        (Edit("b", factors=(torch.zeros(3, 1), torch.zeros(1, 2))), ValueError),
        (Edit("b", torch.full((2, 3), float("nan"))), UserError),
        (Edit("b", factors=(torch.full((2, 1), float("nan")), torch.ones(1, 3))), UserError),
    ],
)
def test_a_wrong_edit_leaves_every_tensor_as_it_was(edit: Edit, error: type[Exception]) -> None:
    tensors = named()
    with pytest.raises(error):
        apply_edits(tensors, [Edit("a", torch.ones(2, 3)), edit])
    assert all(torch.equal(tensor.data, torch.ones(2, 3)) for tensor in tensors.values())
