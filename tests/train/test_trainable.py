"""Flags of what is trained: set for a while, and back as they were, whatever happens in between."""

from __future__ import annotations

import pytest
from torch import nn

import tiny_erasure
from oubliette.train.trainable import parameters_of, these_alone


def test_these_alone_require_a_gradient_and_all_flags_come_back() -> None:
    layer, other = nn.Linear(2, 2), nn.Linear(2, 2)
    other.weight.requires_grad_(False)
    every = [layer.weight, layer.bias, other.weight, other.bias]
    seen = []

    def stopped() -> None:
        with these_alone(every, [layer.bias, other.weight]):
            seen.extend(each.requires_grad for each in every)
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        stopped()
    assert seen == [False, True, True, False]
    assert [each.requires_grad for each in every] == [True, True, False, True]


def test_a_models_parameters_are_those_of_all_its_components() -> None:
    model = tiny_erasure.backend()
    found = {id(parameter) for parameter in parameters_of(model)}
    assert {id(tensor) for tensor in model.tensors().values()} <= found
    assert found == {id(p) for module in model.modules().values() for p in module.parameters()}
