"""Closed forms against the definition, and every row of the table of special cases against its method's."""

import math

import numpy as np
import pytest
import torch
from scipy import stats
from torch.nn import functional as F

from oubliette.continual.bregman import GENERATORS, by_definition, divergence, generator, quadratic
from oubliette.continual.method import method_names, read_method
from oubliette.continual.objective import output_divergence
from oubliette.core.errors import UserError

N, K = 7, 6


def free(name, seed):
    rng = torch.Generator().manual_seed(seed)
    return torch.randn(N, 2 if name == "gaussian" else K, generator=rng, dtype=torch.float64)


def on_it(name, x):
    """A point that a generator is for: of logits, a distribution."""
    return x.log_softmax(-1) if name == "negative entropy" else x


def points(name, seed):
    return on_it(name, free(name, seed))


KINDS = {**GENERATORS, "quadratic": quadratic(torch.rand(K, dtype=torch.float64) + 0.1)}


@pytest.mark.parametrize("name", KINDS)
def test_the_closed_form_is_the_definition_in_value_and_both_gradients(name):
    leaves = free(name, 0).requires_grad_(), free(name, 1).requires_grad_()
    p, q = (on_it(name, leaf) for leaf in leaves)
    found, expected = divergence(KINDS[name], p, q), by_definition(KINDS[name], p, q)
    torch.testing.assert_close(found, expected, atol=1e-9, rtol=1e-9)
    assert (found > 0).all()
    slopes = (torch.autograd.grad(each.sum(), leaves, retain_graph=True) for each in (found, expected))
    for a, b in zip(*slopes, strict=True):
        torch.testing.assert_close(a, b, atol=1e-9, rtol=1e-9)
    assert divergence(KINDS[name], p, p).abs().max() < 1e-12


@pytest.mark.parametrize("name", KINDS)
def test_the_slope_is_the_gradient_of_phi_in_its_primal_coordinates(name):
    x = points(name, 2)
    kind, phi = KINDS[name], KINDS[name].phi
    step = 1e-6
    for column in range(x.shape[-1]):
        moved = x.clone()
        moved[:, column] += step
        back = x.clone()
        back[:, column] -= step
        change = (kind.primal(moved) - kind.primal(back)).flatten(1)
        along = (kind.slope(x).flatten(1) * change).sum(-1)
        torch.testing.assert_close(phi(moved) - phi(back), along, atol=1e-11, rtol=1e-5)


class Rows:
    """Logits with a graph, labels, and logits of before."""

    def __init__(self):
        rng = torch.Generator().manual_seed(3)
        self.h = torch.randn(N, K, generator=rng, dtype=torch.float64, requires_grad=True)
        self.old = torch.randn(N, K, generator=rng, dtype=torch.float64)
        self.y = torch.randint(K, (N,), generator=rng)


def smoothed(logits, heat):
    return (logits / heat).softmax(-1)


def entropy(h):
    p = h.softmax(-1)
    return -(p * p.log()).sum(-1)


#: Method and term -> the method's own formula, the mean over rows.
OWN = {
    ("er", "replay"): lambda r: F.cross_entropy(r.h, r.y),
    ("der", "logits"): lambda r: F.mse_loss(r.h, r.old),
    ("der++", "logits"): lambda r: F.mse_loss(r.h, r.old),
    ("der++", "replay"): lambda r: F.cross_entropy(r.h, r.y),
    ("lwf", "distilled"): lambda r: F.kl_div(
        F.log_softmax(r.h[:, :4] / 2, -1), smoothed(r.old[:, :4], 2), reduction="batchmean"
    ),
    ("fdr", "function"): lambda r: (r.h.softmax(-1) - r.old.softmax(-1)).norm(dim=-1).square().mean(),
    ("cpr", "spread"): lambda r: math.log(K) - entropy(r.h).mean(),
}


@pytest.mark.parametrize(("method", "term"), OWN)
def test_an_output_term_is_the_methods_own_formula_in_value_and_gradient(method, term):
    rows = Rows()
    spec = next(each for each in read_method(method).output if each.name == term)
    stored = rows.old if spec.target in ("stored", "old") else None
    found = output_divergence(spec, rows.h, rows.y, stored, 4 if spec.seen else K).mean()
    expected = OWN[method, term](rows)
    assert found.item() == pytest.approx(expected.item(), abs=1e-9)
    (a,), (b,) = torch.autograd.grad(found, rows.h), torch.autograd.grad(expected, rows.h)
    torch.testing.assert_close(a, b, atol=1e-9, rtol=1e-9)


def test_every_output_term_that_ships_has_its_formula_here():
    assert {(name, term.name) for name in method_names() for term in read_method(name).output} == set(OWN)


def test_the_order_of_er_is_target_first_and_the_other_is_infinite():
    rows = Rows()
    label = F.one_hot(rows.y, K).double().log()
    output = rows.h.log_softmax(-1)
    kind = generator("negative entropy")
    assert torch.isfinite(divergence(kind, label, output)).all()
    assert torch.isinf(divergence(kind, output, label)).all()


def test_far_apart_logits_keep_a_finite_loss_and_gradient():
    h = torch.tensor([[300.0, -300.0, 0.0]], requires_grad=True)
    spec = read_method("er").output[0]
    loss = output_divergence(spec, h, torch.tensor([1]), None, 3).mean()
    (slope,) = torch.autograd.grad(loss, h)
    assert loss.item() == pytest.approx(600)
    torch.testing.assert_close(slope, torch.tensor([[1.0, -1.0, 0.0]]))


def test_the_gaussians_divergence_is_the_kl_of_two_normals_by_quadrature():
    (m, s), (m0, s0) = (0.3, 0.7), (-0.2, 1.1)
    x = np.linspace(-12, 12, 200_001)
    q, q0 = stats.norm(m, s), stats.norm(m0, s0)
    expected = np.trapezoid(q.pdf(x) * (q.logpdf(x) - q0.logpdf(x)), x)
    point, before = (torch.tensor([a, math.log(b)], dtype=torch.float64) for a, b in ((m, s), (m0, s0)))
    assert float(divergence(GENERATORS["gaussian"], before, point)) == pytest.approx(expected, abs=1e-9)


def test_an_unknown_generator_is_refused():
    with pytest.raises(UserError, match="negative entropy"):
        generator("negative entropi")
