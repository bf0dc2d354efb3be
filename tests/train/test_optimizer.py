import pytest
import torch
from torch import nn

from oubliette.train.config import TrainConfig
from oubliette.train.optimizer import Masters, build_optimizer, load_optimizer_state, optimizer_state


@pytest.mark.parametrize("name", ["adamw", "adam", "sgd"])
def test_state_taken_and_given_back_goes_on_in_the_same_bits(name):
    config = TrainConfig(optimizer=name, learning_rate=0.1)

    def steps(parameters, optimizer, which):
        for step in which:
            for parameter in parameters:
                parameter.grad = torch.sin(parameter.detach() * (step + 1))
            optimizer.step()

    def start():
        parameters = [nn.Parameter(torch.linspace(-1, 1, 6)), nn.Parameter(torch.ones(2, 2))]
        return parameters, build_optimizer(parameters, config)

    whole, optimizer = start()
    steps(whole, optimizer, range(6))
    part, optimizer = start()
    steps(part, optimizer, range(3))
    state = {"other.0": torch.zeros(1), **optimizer_state(optimizer, "mine.")}
    again = [nn.Parameter(parameter.detach().clone()) for parameter in part]
    fresh = build_optimizer(again, config)
    load_optimizer_state(fresh, state, "mine.")
    kept = {key: value.clone() for key, value in state.items()}
    steps(again, fresh, range(3, 6))
    assert all(torch.equal(a, b) for a, b in zip(whole, again, strict=True))
    assert all(torch.equal(state[key], kept[key]) for key in state)  # the given tensors are not written to


def test_an_optimizer_that_has_not_stepped_has_no_state():
    parameters = [nn.Parameter(torch.ones(1))]
    optimizer = build_optimizer(parameters, TrainConfig())
    assert optimizer_state(optimizer) == {}
    load_optimizer_state(optimizer, {})


def test_masters_are_the_parameters_where_these_are_wide_enough():
    wide, narrow = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2, dtype=torch.bfloat16))
    masters = Masters([wide, narrow])
    assert masters.tensors[0] is wide
    assert masters.tensors[1].dtype == torch.float32
    with torch.no_grad():
        masters.tensors[1].add_(2**-9)
        masters.push()
        assert torch.equal(narrow.float(), torch.ones(2))  # half a spacing: rounds back
        masters.tensors[1].add_(2**-7)
    masters.push()
    assert torch.equal(narrow.float(), torch.full((2,), 1 + 2**-7))
    masters.load([torch.zeros(2), torch.full((2,), 3.0)])
    assert torch.equal(wide.detach(), torch.zeros(2))
    assert torch.equal(narrow.float(), torch.full((2,), 3.0))
