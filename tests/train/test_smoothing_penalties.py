"""Gradient penalty and curvature regularisation against their equations."""

from itertools import pairwise

import pytest
import torch

from oubliette.core.errors import UserError
from oubliette.train.roles import Role
from oubliette.train.smoothing import Cr, Gp, NoSmoother, Sam
from oubliette.train.weights import Weights

from .landscape import ROLES, Quadratic, flat, forget_side, gradients_of
from .models import MlpBackend, TwoTasks

BOTH = ("exact", "finite_diff")


def mlp():
    """A model in fp64, its weights, and a step's gradients of two forget roles' data."""
    model = MlpBackend(dtype=torch.float64)
    task = TwoTasks()
    task.x = {role: x.double() for role, x in task.x.items()}
    task.y = {role: y.double() for role, y in task.y.items()}
    weights = Weights(model.tensors())
    task.setup(model, None, weights, 0)
    draw = task.draw(0, torch.Generator().manual_seed(0), 6)
    return task, draw, weights, gradients_of(task, weights, [draw])


def penalty_gradient(task, draw, weights, mu):
    """Autograd's own gradient of ||grad L|| (mu None) or of ||grad L(w + mu v) - grad L(w)||."""
    parameters = weights.parameters
    names = [name.removeprefix("net.") for name in weights.names]

    def gradient(at):
        index = draw["index"]
        made = torch.func.functional_call(
            task.model.net, dict(zip(names, at, strict=True)), task.x["forget"][index]
        )
        loss = -(made - task.y["forget"][index]).square().mean()
        return torch.autograd.grad(loss, at, create_graph=True)

    def norm(tensors):
        return torch.cat([tensor.flatten() for tensor in tensors]).norm()

    start = [parameter.detach().clone().requires_grad_() for parameter in parameters]
    here = gradient(start)
    penalty = norm(here)
    if mu is not None:
        ahead = gradient([w + mu * g / penalty for w, g in zip(start, here, strict=True)])
        penalty = norm([a - b for a, b in zip(ahead, here, strict=True)])
    return flat(torch.autograd.grad(penalty, start))


@pytest.mark.parametrize("variant", BOTH)
def test_gp_of_a_quadratic_is_its_closed_form_and_differences_are_exact_there(variant):
    bowl = Quadratic()
    weights = Weights(bowl.named)
    curve, slope = bowl.side()
    g = curve @ flat(weights.parameters) + slope
    found = Gp(rho=0.7, variant=variant).gradients(gradients_of(bowl, weights), weights, ROLES)
    assert list(found) == list(ROLES)
    torch.testing.assert_close(forget_side(found), g + 0.7 * curve @ g / g.norm())
    w = flat(weights.parameters)
    torch.testing.assert_close(flat(found["retain"]), bowl.curve["retain"] @ w + bowl.slope["retain"])
    for name in ("forget", "further"):  # each role carries its own Hessian along the common direction
        own = bowl.curve[name] @ w + bowl.slope[name] + 0.7 * bowl.curve[name] @ g / g.norm()
        torch.testing.assert_close(flat(found[name]), own)


@pytest.mark.parametrize("variant", BOTH)
def test_cr_of_a_quadratic_is_its_closed_form(variant):
    """d = mu A v, so all of the penalty's gradient comes from v's own turning."""
    bowl = Quadratic(1)
    weights = Weights(bowl.named)
    curve, slope = bowl.side()
    g = curve @ flat(weights.parameters) + slope
    v = g / g.norm()
    e = curve @ v / (curve @ v).norm()
    u = curve @ e
    expected = g + 3.0 * (0.2 / g.norm()) * curve @ (u - (v @ u) * v)
    smoother = Cr(gamma=3.0, mu=0.2, variant=variant)
    found = smoother.gradients(gradients_of(bowl, weights), weights, ROLES)
    torch.testing.assert_close(forget_side(found), expected)
    assert smoother.facts()["curvature"] == pytest.approx(float((curve @ v).norm()))


def test_exact_is_autograds_gradient_of_the_penalty():
    task, draw, weights, at = mlp()
    plain = flat(at("forget"))
    for smoother, mu, strength in ((Gp(rho=0.3), None, 0.3), (Cr(gamma=2.0, mu=0.05), 0.05, 2.0)):
        (found,) = smoother.gradients(at, weights, {"forget": Role("forget")}).values()
        expected = plain + strength * penalty_gradient(task, draw, weights, mu)
        torch.testing.assert_close(flat(found), expected, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize(("kind", "options"), [(Gp, {"rho": 1.0}), (Cr, {"gamma": 1.0, "mu": 0.05})])
def test_finite_differences_converge_to_exact_at_first_order(kind, options):
    _, _, weights, at = mlp()
    roles = {"forget": Role("forget", weight=1.5)}

    def result(**more):
        return flat(kind(**options, **more).gradients(at, weights, roles)["forget"])

    exact = result()
    steps = (1e-2, 1e-3, 1e-4)
    errors = [float((result(variant="finite_diff", epsilon=e) - exact).norm()) for e in steps]
    assert errors[2] < 1e-3 * float(exact.norm())
    for larger, smaller in pairwise(errors):
        assert larger / smaller == pytest.approx(10, rel=0.2)


def test_gp_by_differences_of_step_rho_is_sam():
    _, _, weights, at = mlp()
    roles = {"retain": Role("retain"), "forget": Role("forget", weight=3.0)}
    sam = Sam(0.1).gradients(at, weights, roles)
    found = Gp(rho=0.1, variant="finite_diff", epsilon=0.1).gradients(at, weights, roles)
    for name in roles:
        torch.testing.assert_close(flat(found[name]), flat(sam[name]))


@pytest.mark.parametrize(
    "smoother", [Gp(rho=0), Cr(gamma=0), Gp(0, "finite_diff"), Cr(0, 0.1, "finite_diff")]
)
def test_strength_zero_is_the_plain_gradient_bit_for_bit(smoother):
    _, _, weights, at = mlp()
    roles = {"retain": Role("retain"), "forget": Role("forget")}
    plain = NoSmoother().gradients(at, weights, roles)
    found = smoother.gradients(at, weights, roles)
    assert all(torch.equal(flat(plain[name]), flat(found[name])) for name in roles)


@pytest.mark.parametrize("smoother", [Gp(), Cr(), Gp(variant="finite_diff"), Cr(variant="finite_diff")])
def test_a_gradient_without_direction_or_a_loss_without_curvature_is_left_alone(smoother):
    bowl = Quadratic()
    weights = Weights(bowl.named)
    bowl.curve = {role: torch.zeros_like(curve) for role, curve in bowl.curve.items()}
    found = smoother.gradients(gradients_of(bowl, weights), weights, ROLES)
    assert torch.equal(flat(found["forget"]), bowl.slope["forget"])
    bowl.slope = {role: torch.zeros_like(slope) for role, slope in bowl.slope.items()}
    found = smoother.gradients(gradients_of(bowl, weights), weights, ROLES)
    assert not flat(found["forget"]).any()


def test_an_operation_without_a_second_derivative_is_named_with_the_way_out():
    class Once(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x.square().sum()

        @staticmethod
        @torch.autograd.function.once_differentiable
        def backward(ctx, grad):
            return 2 * grad * ctx.saved_tensors[0]

    bowl = Quadratic()
    weights = Weights(bowl.named)
    bowl.loss = lambda role, draw: sum(Once.apply(w).square() for w in bowl.named.values())
    with pytest.raises(UserError, match=r"cannot be differentiated twice.*variant=finite_diff") as caught:
        Gp().gradients(gradients_of(bowl, weights), weights, ROLES)
    assert "\n" not in str(caught.value)
    Gp(variant="finite_diff").gradients(gradients_of(bowl, weights), weights, ROLES)


@pytest.mark.parametrize(
    ("make", "wrong"),
    [
        (lambda: Gp(rho=-1), "gp: rho must be at least 0"),
        (lambda: Gp(epsilon=0), "gp: epsilon must be above 0"),
        (lambda: Cr(gamma=-1), "cr: gamma must be at least 0"),
        (lambda: Cr(mu=0), "cr: mu must be above 0"),
    ],
)
def test_a_wrong_setting_is_refused(make, wrong):
    with pytest.raises(UserError, match=wrong):
        make()
