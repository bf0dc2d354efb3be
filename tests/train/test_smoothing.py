import math

import pytest
import torch

from oubliette.core.errors import UserError
from oubliette.train.roles import Role
from oubliette.train.smoothing import NoSmoother, Sam
from oubliette.train.weights import Weights

from .models import MlpBackend, TwoTasks

ROLES = {
    "retain": Role("retain"),
    "forget": Role("forget", weight=2.0),
    "further": Role("forget", weight=0.5),
}


def setting():
    """A model, its weights, and the gradient of a role wherever the weights stand."""
    model = MlpBackend()
    task = TwoTasks()
    weights = Weights(model.tensors())
    task.setup(model, None, weights, 0)
    draw = task.draw(0, torch.Generator().manual_seed(0), 6)
    other = task.draw(0, torch.Generator().manual_seed(1), 6)
    calls = []

    def at(role: str) -> list[torch.Tensor]:
        calls.append(role)
        loss = task.loss("forget", other) if role == "further" else task.loss(role, draw)
        return list(torch.autograd.grad(loss, weights.parameters))

    return weights, at, calls


def test_sam_is_two_steps_by_hand():
    weights, at, _ = setting()
    rho = 0.3
    g1, g2 = at("forget"), at("further")
    ascent = [2.0 * a + 0.5 * b for a, b in zip(g1, g2, strict=True)]
    norm = math.sqrt(sum(float(g.double().square().sum()) for g in ascent))
    before = [p.detach().clone() for p in weights.parameters]
    retain = at("retain")
    with torch.no_grad():
        for p, g in zip(weights.parameters, ascent, strict=True):
            p.add_(rho * g / norm)
    expected = {"forget": at("forget"), "further": at("further"), "retain": retain}
    with torch.no_grad():
        for p, b in zip(weights.parameters, before, strict=True):
            p.copy_(b)

    smoother = Sam(rho)
    found = smoother.gradients(at, weights, ROLES)
    assert list(found) == list(ROLES)
    for role in ROLES:
        for a, b in zip(found[role], expected[role], strict=True):
            assert torch.allclose(a, b, atol=1e-6)
    assert smoother.facts()["ascent_norm"] == pytest.approx(norm, rel=1e-5)
    assert all(torch.equal(p, b) for p, b in zip(weights.parameters, before, strict=True))


def test_the_perturbation_has_norm_rho_over_all_tensors():
    weights, at, _ = setting()
    start = [p.detach().clone() for p in weights.parameters]
    lengths = []

    def watched(role: str) -> list[torch.Tensor]:
        moved = [p.detach() - s for p, s in zip(weights.parameters, start, strict=True)]
        lengths.append((role, math.sqrt(sum(float(m.double().square().sum()) for m in moved))))
        return at(role)

    Sam(0.05).gradients(watched, weights, ROLES)
    assert [role for role, _ in lengths] == ["retain", "forget", "further", "forget", "further"]
    assert [length for _, length in lengths] == pytest.approx([0, 0, 0, 0.05, 0.05], abs=1e-6)


def test_rho_zero_is_the_plain_gradient_bit_for_bit():
    weights, at, _ = setting()
    plain = NoSmoother().gradients(at, weights, ROLES)
    found = Sam(0.0).gradients(at, weights, ROLES)
    for role in ROLES:
        assert all(torch.equal(a, b) for a, b in zip(plain[role], found[role], strict=True))


def test_without_a_forget_role_nothing_is_perturbed():
    weights, at, calls = setting()
    Sam(1.0).gradients(at, weights, {"retain": Role("retain")})
    assert calls == ["retain"]


def test_a_zero_gradient_is_not_divided():
    weights, _, _ = setting()
    zeros = Sam(1.0).gradients(
        lambda role: [torch.zeros_like(p) for p in weights.parameters], weights, {"forget": Role("forget")}
    )
    assert all(not z.any() for z in zeros["forget"])


def test_a_negative_rho_is_refused():
    with pytest.raises(UserError, match="rho"):
        Sam(-0.1)
