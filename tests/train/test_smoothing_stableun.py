"""StableUN's feedback against its closed forms on quadratic losses."""

from __future__ import annotations

import pytest
import torch

from oubliette.core.errors import UserError
from oubliette.train import SMOOTHERS
from oubliette.train.gradients import step_rng
from oubliette.train.roles import Role
from oubliette.train.smoothing import NoSmoother, Passes, Sam, StableUN
from oubliette.train.surgery import Project, Sum
from oubliette.train.weights import Weights

from .landscape import INNER, ROLES, Quadratic, Tilted, flat, gradients_of

FORGET = [name for name, role in ROLES.items() if role.kind == "forget"]


def unit(direction: torch.Tensor) -> torch.Tensor:
    return direction / direction.norm()


def side(bowl: Tilted, w: torch.Tensor, tilt: int = 0) -> torch.Tensor:
    """The weighted forget gradient in closed form."""
    return sum(ROLES[name].weight * bowl.gradient(name, w, tilt) for name in FORGET)


def of(smoother: StableUN, bowl: Quadratic, weights: Weights, step: int = 4) -> dict[str, torch.Tensor]:
    smoother.begin(step, 10, 7)
    found = smoother.gradients(gradients_of(bowl, weights), weights, ROLES)
    assert list(found) == list(ROLES)
    return {name: flat(gradient) for name, gradient in found.items()}


def place(smoother: StableUN, bowl: Tilted, w: torch.Tensor) -> torch.Tensor:
    """Where the probe asks, for one draw."""
    ahead = w - smoother.inner_learning_rate * side(bowl, w)
    if smoother.probe == "sap":
        return ahead + smoother.rho * unit(side(bowl, ahead, 1))
    if smoother.probe == "gap":
        return ahead - smoother.rho * unit(bowl.gradient("relearn", ahead, 1))
    return smoother.decay * w + (1 - smoother.decay) * ahead  # hws, in a run's first step


@pytest.mark.parametrize("probe", ["sap", "gap", "hws"])
def test_each_branch_is_its_closed_form(probe: str) -> None:
    bowl = Tilted()
    weights = Weights(bowl.named)
    w = flat(weights.parameters).clone()
    smoother = StableUN(probe, rho=0.3, inner_learning_rate=0.05, feedback=0.7, decay=0.8)
    found = of(smoother, bowl, weights)
    ahead = w - 0.05 * side(bowl, w)
    there = place(smoother, bowl, w)
    for name in FORGET:
        wanted = bowl.gradient(name, w) + 0.7 * bowl.gradient(name, there, 1)
        torch.testing.assert_close(found[name], wanted)
    torch.testing.assert_close(found["retain"], bowl.gradient("retain", ahead))
    assert torch.equal(flat(weights.parameters), w)
    assert smoother.facts()["gradient_norm"] == pytest.approx(float(side(bowl, w).norm()))
    if probe == "gap":
        wanted = float(INNER["relearn"].weight * bowl.gradient("relearn", ahead, 1).norm())
        assert smoother.facts()["direction_norm"] == pytest.approx(wanted)


def test_noise_is_averaged_over_its_draws_and_comes_from_seed_and_step() -> None:
    bowl = Tilted()
    weights = Weights(bowl.named)
    w = flat(weights.parameters).clone()
    found = of(StableUN("gpn", rho=0.3, inner_learning_rate=0.05, draws=3), bowl, weights)
    rng = step_rng(7, 4, "stableun")
    ahead = w - 0.05 * side(bowl, w)
    places = [
        ahead
        + 0.3 * flat([torch.randn(p.shape, generator=rng, dtype=torch.float64) for p in weights.parameters])
        for _ in range(3)
    ]
    for name in FORGET:
        feedback = torch.stack([bowl.gradient(name, point, 1) for point in places]).mean(dim=0)
        torch.testing.assert_close(found[name], bowl.gradient(name, w) + feedback)
    again = of(StableUN("gpn", rho=0.3, inner_learning_rate=0.05, draws=3), bowl, weights, step=5)
    assert not torch.equal(found["forget"], again["forget"])


@pytest.mark.parametrize("probe", ["sap", "gpn", "gap", "hws"])
def test_without_a_radius_every_probe_asks_a_step_ahead(probe: str) -> None:
    bowl = Tilted()
    weights = Weights(bowl.named)
    w = flat(weights.parameters).clone()
    smoother = StableUN(probe, rho=0, decay=0, inner_learning_rate=0.05)
    assert smoother.extra_passes == Passes(1, 1, retain_forwards=1, draws=1)
    found = of(smoother, bowl, weights)
    ahead = w - 0.05 * side(bowl, w)
    for name in FORGET:
        torch.testing.assert_close(found[name], bowl.gradient(name, w) + bowl.gradient(name, ahead, 1))


def test_without_a_step_it_is_the_plain_gradient_and_sams_on_another_draw() -> None:
    bowl = Tilted()
    weights = Weights(bowl.named)
    found = of(StableUN("sap", rho=0.3, inner_learning_rate=0), bowl, weights)
    further = gradients_of(bowl, weights).fresh()
    sam = Sam(0.3).gradients(further, weights, ROLES)
    plain = NoSmoother().gradients(gradients_of(bowl, weights), weights, ROLES)
    assert torch.equal(found["retain"], flat(plain["retain"]))
    for name in FORGET:
        torch.testing.assert_close(found[name], flat(plain[name]) + flat(sam[name]))


@pytest.mark.parametrize("probe", ["sap", "gpn", "gap", "hws"])
def test_without_feedback_and_step_it_is_the_plain_gradient_bit_for_bit(probe: str) -> None:
    bowl = Tilted()
    weights = Weights(bowl.named)
    smoother = StableUN(probe, inner_learning_rate=0, feedback=0)
    plain = NoSmoother().gradients(gradients_of(bowl, weights), weights, ROLES)
    found = of(smoother, bowl, weights)
    assert all(torch.equal(found[name], flat(plain[name])) for name in ROLES)
    assert smoother.extra_passes == Passes()


def test_halves_share_the_forget_gradient_and_sum_to_the_same() -> None:
    roles = {**ROLES, "retain": Role("retain", weight=4.0)}
    bowl = Tilted()
    weights = Weights(bowl.named)
    w = flat(weights.parameters).clone()

    def branches(count: str) -> tuple[torch.Tensor, torch.Tensor]:
        smoother = StableUN("sap", rho=0.3, inner_learning_rate=0.05, count=count)
        found = smoother.gradients(gradients_of(bowl, weights), weights, roles)
        g_f = sum(roles[name].weight * flat(found[name]) for name in FORGET)
        return g_f, 4.0 * flat(found["retain"])

    once, halves = branches("single"), branches("halves")
    torch.testing.assert_close(once[0] - halves[0], 0.5 * side(bowl, w))
    torch.testing.assert_close(halves[1] - once[1], 0.5 * side(bowl, w))


def test_harmonised_is_the_projection_of_both_branches_as_one_vector() -> None:
    """The sheet's formula, with both branches in conflict."""
    bowl = Tilted(1)
    weights = Weights(bowl.named)
    roles = {"forget": Role("forget", weight=2.0), "retain": Role("retain", weight=0.5)}
    smoother = StableUN("sap", rho=0.3, inner_learning_rate=0.05)
    for sign in (1.0, -1.0):
        bowl.curve["retain"], bowl.slope["retain"] = (
            sign * bowl.curve["forget"],
            sign * bowl.slope["forget"],
        )
        found = smoother.gradients(gradients_of(bowl, weights), weights, roles)
        g_f, g_r = 2.0 * flat(found["forget"]), 0.5 * flat(found["retain"])
        inner = g_f @ g_r
        wanted = g_f + g_r - (inner / g_r.square().sum() * g_r if inner < 0 else 0)
        copies = {name: [part.clone() for part in gradient] for name, gradient in found.items()}
        torch.testing.assert_close(flat(Project(per="all").combine(copies, roles)), wanted)
        assert (inner < 0) != torch.allclose(flat(Sum().combine(found, roles)), wanted)


def test_the_remembered_mean_goes_along_with_the_weights_and_is_kept() -> None:
    bowl = Tilted()
    weights = Weights(bowl.named)
    smoother = StableUN("hws", inner_learning_rate=0.05, decay=0.8)
    mean = flat(weights.parameters).clone()
    rng = torch.Generator().manual_seed(3)
    smoother.begin(0, 10, 7)
    for step in range(3):
        with torch.no_grad():
            for parameter in weights.parameters:
                parameter.add_(torch.randn(parameter.shape, generator=rng, dtype=torch.float64))
        smoother.after_step(weights, step)
        mean = 0.8 * mean + 0.2 * flat(weights.parameters)
    other = StableUN("hws", inner_learning_rate=0.05, decay=0.8)
    other.load_state(smoother.state())
    w = flat(weights.parameters).clone()
    there = 0.8 * mean + 0.2 * (w - 0.05 * side(bowl, w))
    for one in (smoother, other):
        found = of(one, bowl, weights)
        torch.testing.assert_close(
            found["forget"], bowl.gradient("forget", w) + bowl.gradient("forget", there, 1)
        )
    smoother.begin(0, 10, 7)
    assert smoother.state() == {}


def test_an_attackers_way_needs_an_attackers_loss() -> None:
    bowl = Quadratic()
    weights = Weights(bowl.named)
    with pytest.raises(UserError, match="'gap' goes where an attacker would"):
        of(StableUN("gap"), bowl, weights)
    assert of(StableUN("gap", rho=0), bowl, weights)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"probe": "sad"}, "probe"),
        ({"rho": -1}, "rho must be at least 0"),
        ({"inner_learning_rate": -1}, "inner_learning_rate must be at least 0"),
        ({"feedback": -1}, "feedback must be at least 0"),
        ({"draws": 0}, "draws must be at least 1"),
        ({"decay": 1}, r"decay must lie in \[0, 1\)"),
        ({"count": "twice"}, "count"),
    ],
)
def test_wrong_settings_are_refused(options: dict[str, object], said: str) -> None:
    with pytest.raises(UserError, match=said):
        SMOOTHERS.build({"name": "stableun", **options})
