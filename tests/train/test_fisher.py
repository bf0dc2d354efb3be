"""The diagonal Fisher against per-sample gradients of `torch.func`."""

import pytest
import torch
from torch.func import functional_call, grad, vmap

from oubliette.core.errors import UserError
from oubliette.train.fisher import fisher_diag

from .models import MlpBackend


class Classes:
    """Labelled vectors."""

    def __init__(self, count=9, dtype=torch.float64):
        rng = torch.Generator().manual_seed(1)
        self.x = torch.randn(count, 5, generator=rng, dtype=dtype)
        self.y = torch.randint(3, (count,), generator=rng)

    def __len__(self):
        return len(self.x)

    def log_likelihood(self, model, index):
        return model.net(self.x[index]).log_softmax(-1)[self.y[index]]


def reference(model, data, weighted):
    """All samples at once, by vmap."""
    named = {name: p.detach() for name, p in model.net.named_parameters()}

    def likelihood(parameters, x, y):
        return functional_call(model.net, parameters, (x,)).log_softmax(-1).gather(-1, y[None])[0]

    rows = vmap(grad(likelihood), (None, 0, 0))(named, data.x, data.y)
    p = vmap(likelihood, (None, 0, 0))(named, data.x, data.y).exp()
    weight = p if weighted else torch.ones_like(p)
    return {
        f"net.{name}": (weight.view(-1, *[1] * (row.ndim - 1)) * row**2).mean(0) for name, row in rows.items()
    }


@pytest.mark.parametrize("mode", ["empirical", "weighted"])
def test_it_is_the_mean_of_per_sample_squared_gradients(mode):
    model, data = MlpBackend(dtype=torch.float64), Classes()
    before = {name: tensor.detach().clone() for name, tensor in model.tensors().items()}
    found, expected = fisher_diag(model, data, mode), reference(model, data, mode == "weighted")
    assert set(found) == set(expected)
    for name, part in found.items():
        torch.testing.assert_close(part, expected[name], atol=1e-12, rtol=1e-10)
        assert torch.equal(model.tensors()[name], before[name])
        assert model.tensors()[name].requires_grad


def test_it_is_taken_of_the_named_tensors_alone_and_zero_where_nothing_reaches():
    model, data = MlpBackend(), Classes(dtype=torch.float32)
    found = fisher_diag(model, data, names=["net.second.bias"])
    whole = fisher_diag(model, data)
    assert list(found) == ["net.second.bias"]
    torch.testing.assert_close(found["net.second.bias"], whole["net.second.bias"])
    data.log_likelihood = lambda model, index: model.net.second.bias.log_softmax(-1)[0]
    assert not fisher_diag(model, data)["net.first.weight"].any()


def test_no_items_and_a_tensor_that_is_none_are_refused():
    with pytest.raises(UserError, match="at least one item"):
        fisher_diag(MlpBackend(), Classes(0))
    with pytest.raises(UserError, match=r"no tensor 'net\.frist'"):
        fisher_diag(MlpBackend(), Classes(), names=["net.frist"])
