import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from oubliette.train.gradients import GradScale, as_floats, clip_, global_norm, micro_batch_rng
from oubliette.train.objective import BaseObjective
from oubliette.train.roles import Role


@given(seed=st.integers(0, 2**40), step=st.integers(0, 10**6), micro=st.integers(0, 1000))
def test_a_micro_batchs_numbers_depend_on_seed_step_and_number_alone(seed, step, micro):
    torch.manual_seed(seed % 7)  # the global generator has no part in it
    first = torch.rand(3, generator=micro_batch_rng(seed, step, micro))
    assert torch.equal(first, torch.rand(3, generator=micro_batch_rng(seed, step, micro)))
    for other in ((seed + 1, step, micro), (seed, step + 1, micro), (seed, step, micro + 1)):
        assert not torch.equal(first, torch.rand(3, generator=micro_batch_rng(*other)))


def test_norm_and_clip_are_over_all_tensors():
    gradient = [torch.tensor([3.0]), torch.tensor([[4.0], [12.0]])]
    assert float(global_norm(gradient)) == pytest.approx(13.0)
    clip_(gradient, 13.0, None)
    clip_(gradient, 13.0, 20.0)
    assert float(global_norm(gradient)) == pytest.approx(13.0)
    clip_(gradient, 13.0, 1.0)
    assert float(global_norm(gradient)) == pytest.approx(1.0)
    assert float(gradient[0]) == pytest.approx(3 / 13)


def test_scale_halves_to_one_and_grows_after_patience():
    scale = GradScale(True, start=4.0, patience=2)
    assert scale.shrink()
    assert scale.shrink()
    assert not scale.shrink()
    for _ in range(4):
        scale.succeeded()
    assert scale.value == 4.0
    off = GradScale(False)
    off.succeeded()
    assert (off.value, off.good, off.shrink()) == (1.0, 0, False)


def test_as_floats():
    assert as_floats({}) == {}
    found = as_floats({"a": torch.tensor(1.5), "b": torch.tensor(float("nan"), dtype=torch.float64)})
    assert found["a"] == 1.5
    assert math.isnan(found["b"])


def test_a_helper_has_parameters_of_its_own_and_nothing_else_does():
    parameter = torch.nn.Parameter(torch.ones(1))
    optimizer = torch.optim.SGD([parameter], lr=1.0)
    Role("helper", parameters=(parameter,), optimizer=optimizer)
    with pytest.raises(ValueError, match="needs its parameters"):
        Role("helper", parameters=(parameter,))
    with pytest.raises(ValueError, match="a forget role is of the model's weights"):
        Role("forget", parameters=(parameter,))


def test_base_objective_refuses_a_state_it_did_not_give():
    base = BaseObjective()
    base.load_state(base.state())
    with pytest.raises(ValueError, match="keeps no state"):
        base.load_state({"x": torch.zeros(1)})
