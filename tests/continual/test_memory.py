"""The weight terms against their own formulas."""

import pytest
import torch
from torch import nn
from torch.distributions import Normal, kl_divergence

from oubliette.continual.memory import WeightMemory
from oubliette.continual.method import WeightTerm, read_method
from oubliette.core.errors import UserError

SHAPES = {"net.a": (2, 3), "net.b": (4,)}


def named(seed, shapes=SHAPES):
    rng = torch.Generator().manual_seed(seed)
    return {name: torch.randn(shape, generator=rng, dtype=torch.float64) for name, shape in shapes.items()}


def trained(seed):
    return {name: nn.Parameter(tensor) for name, tensor in named(seed).items()}


def fisher(seed):
    return {name: tensor.square() for name, tensor in named(seed).items()}


def held(term, count=2):
    memory = WeightMemory(term)
    for task in range(count):
        memory.take(named(task), fisher(10 + task))
    return memory


def own(method):
    """Elastic weight consolidation's sum over tasks; online, one with a running Fisher; Laplace, with a
    prior.
    """
    weights, term = trained(5), read_method(method).weights
    parts = []
    for name, w in weights.items():
        first, second = fisher(10)[name], fisher(11)[name]
        if method in ("ewc", "cpr"):
            parts += [(f * (w - named(t)[name]) ** 2).sum() / 2 for t, f in enumerate((first, second))]
        else:
            running = term.decay * first + second + term.prior
            parts.append((running * (w - named(1)[name]) ** 2).sum() / 2)
    return weights, term, sum(parts)


@pytest.mark.parametrize("method", ["ewc", "cpr", "ewc-online", "natural-gradient"])
def test_a_weight_term_is_the_methods_own_formula_in_value_and_gradient(method):
    weights, term, expected = own(method)
    found = held(term).divergence(weights)
    assert found.item() == pytest.approx(expected.item(), abs=1e-9)
    pairs = (torch.autograd.grad(each, list(weights.values())) for each in (found, expected))
    for a, b in zip(*pairs, strict=True):
        torch.testing.assert_close(a, b, atol=1e-9, rtol=1e-9)


def test_the_running_fisher_is_decayed():
    memory = held(WeightTerm(beta=1, decay=0.5), 3)
    running = {name: 0.25 * fisher(10)[name] + 0.5 * fisher(11)[name] + fisher(12)[name] for name in SHAPES}
    for name, part in running.items():
        torch.testing.assert_close(memory.state()[f"0.fisher.{name}"], part)


def test_the_released_penalty_has_no_half():
    """beta is twice the released lambda of online EWC (10)."""
    assert read_method("ewc-online").weights.beta == 2 * 10


def test_vcl_is_the_kl_of_the_weights_to_those_of_before():
    shapes = {"net.mean.a.w": (2, 3), "net.log_std.a/w": (2, 3), "net.mean.b": (4,), "net.log_std.b": (4,)}
    memory = WeightMemory(read_method("vcl").weights)
    memory.take(named(0, shapes))
    now = {name: nn.Parameter(tensor) for name, tensor in named(1, shapes).items()}
    found = memory.divergence(now)
    expected = sum(
        kl_divergence(
            Normal(now[f"net.mean.{mean}"], now[f"net.log_std.{std}"].exp()),
            Normal(named(0, shapes)[f"net.mean.{mean}"], named(0, shapes)[f"net.log_std.{std}"].exp()),
        ).sum()
        for mean, std in (("a.w", "a/w"), ("b", "b"))
    )
    assert found.item() == pytest.approx(expected.item(), abs=1e-9)
    pairs = (torch.autograd.grad(each, list(now.values())) for each in (found, expected))
    for a, b in zip(*pairs, strict=True):
        torch.testing.assert_close(a, b, atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize("keep", ["all", "last"])
def test_it_is_taken_up_as_it_was(keep):
    memory, again = held(WeightTerm(beta=1, keep=keep), 12), WeightMemory(WeightTerm(beta=1, keep=keep))
    again.load_state(memory.state())
    assert torch.equal(again.divergence(trained(5)), memory.divergence(trained(5)))
    assert again
    assert not WeightMemory(WeightTerm(beta=1))


def test_a_fisher_of_another_model_is_refused():
    memory = WeightMemory(WeightTerm(beta=1))
    for other, said in (
        ({}, "is missing"),
        (named(0, {"net.a": (3, 2), "net.b": (4,)}), r"has shape \(3, 2\)"),
    ):
        with pytest.raises(UserError, match=f"Fisher of 'net.a' {said}.*another model's"):
            memory.take(named(0), other)
    assert not memory
