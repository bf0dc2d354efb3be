import pytest
import torch
from torch import nn

from oubliette.core.errors import UserError
from oubliette.train.weights import Weights

from .models import MlpBackend

DTYPES = [torch.float32, torch.bfloat16, torch.float16]


def moved(dtype: torch.dtype) -> tuple[MlpBackend, Weights, dict[str, torch.Tensor]]:
    """A backend whose weights have left their originals, and a copy of where they are."""
    model = MlpBackend(dtype=dtype)
    weights = Weights(model.tensors())
    with torch.no_grad():
        for parameter in weights.parameters:
            parameter.add_(torch.randn_like(parameter))
    return model, weights, {name: p.detach().clone() for name, p in model.tensors().items()}


def same_bits(left: torch.Tensor, right: torch.Tensor) -> bool:
    """Equality of the bytes: NaNs and signed zeros count."""
    return torch.equal(left.detach().view(torch.uint8), right.detach().view(torch.uint8))


@pytest.mark.parametrize("dtype", DTYPES)
def test_originals_holds_the_start_and_gives_every_bit_back(dtype):
    model, weights, now = moved(dtype)
    pointers = [p.data_ptr() for p in weights.parameters]
    with weights.originals():
        assert all(same_bits(p, weights.original[n]) for n, p in model.tensors().items())
        assert all(p.data_ptr() == weights.original[n].data_ptr() for n, p in model.tensors().items())
    assert all(same_bits(p, now[n]) for n, p in model.tensors().items())
    assert pointers == [p.data_ptr() for p in weights.parameters]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", [1e-9, 1.0, 1e6])
def test_perturbed_adds_in_fp32_and_gives_every_bit_back(dtype, size):
    model, weights, now = moved(dtype)
    deltas = [torch.randn(p.shape) * size for p in weights.parameters]
    with weights.perturbed(deltas):
        for (name, parameter), delta in zip(model.tensors().items(), deltas, strict=True):
            assert same_bits(parameter, (now[name].float() + delta).to(dtype))
    assert all(same_bits(p, now[n]) for n, p in model.tensors().items())


def test_bits_come_back_after_an_error_and_in_a_nest():
    model, weights, now = moved(torch.bfloat16)
    zeros = [torch.full(p.shape, float("nan")) for p in weights.parameters]

    def fail_inside():
        with weights.perturbed(zeros), weights.originals():
            assert same_bits(model.net.first.weight, weights.original["net.first.weight"])
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_inside()
    assert all(same_bits(p, now[n]) for n, p in model.tensors().items())


def test_a_graph_built_before_the_swap_gives_the_right_gradient_after_it():
    model, weights, _ = moved(torch.float32)
    x = torch.randn(4, 5)
    expected = torch.autograd.grad(model.net(x).square().sum(), weights.parameters)
    student = model.net(x)
    with weights.originals(), torch.no_grad():
        model.net(x)
    found = torch.autograd.grad(student.square().sum(), weights.parameters)
    assert all(torch.equal(a, b) for a, b in zip(expected, found, strict=True))


def test_delta_restore_and_masks():
    model = MlpBackend()
    mask = torch.zeros(7, 5, dtype=torch.bool)
    mask[0] = True
    weights = Weights(model.tensors(), element_masks={"net.first.weight": mask})
    start = model.net.first.weight.detach().clone()
    with torch.no_grad():
        model.net.first.weight.add_(1.0)
        model.net.second.bias.add_(2.0)
    weights.enforce_masks()
    assert torch.equal(model.net.first.weight[1:], start[1:])
    assert torch.equal(model.net.first.weight[0], start[0] + 1)
    assert torch.allclose(weights.delta()["net.second.bias"], torch.full((3,), 2.0))
    weights.restore()
    assert all(same_bits(p, weights.original[n]) for n, p in model.tensors().items())


def test_refusals():
    with pytest.raises(UserError, match="nothing to train"):
        Weights({})
    tied = nn.Parameter(torch.zeros(2))
    with pytest.raises(ValueError, match="two names"):
        Weights({"a": tied, "b": tied})
    with pytest.raises(ValueError, match="element mask"):
        Weights({"a": tied}, element_masks={"a": torch.ones(3)})
    with pytest.raises(ValueError, match="0 deltas"), Weights({"a": tied}).perturbed([]):
        pass
