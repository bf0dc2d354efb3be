"""Randomised smoothing against its expectation."""

import pytest
import torch

from oubliette.core.errors import UserError
from oubliette.train.gradients import step_rng
from oubliette.train.roles import Role
from oubliette.train.smoothing import NoSmoother, Rs
from oubliette.train.weights import Weights

from .landscape import ROLES, Quadratic, flat, gradients_of


def test_it_is_the_mean_of_gradients_at_noisy_weights():
    bowl = Quadratic()
    weights = Weights(bowl.named)
    smoother = Rs(sigma=0.3, draws=3)
    smoother.begin(4, 10, 7)
    found = smoother.gradients(gradients_of(bowl, weights), weights, ROLES)
    rng = step_rng(7, 4, "rs")
    noise = torch.stack(
        [
            flat([torch.randn(w.shape, generator=rng, dtype=torch.float64) for w in weights.parameters])
            for _ in range(3)
        ]
    ).mean(0)
    w = flat(weights.parameters)
    for name in ("forget", "further"):
        expected = bowl.curve[name] @ (w + 0.3 * noise) + bowl.slope[name]
        torch.testing.assert_close(flat(found[name]), expected)
    torch.testing.assert_close(flat(found["retain"]), bowl.curve["retain"] @ w + bowl.slope["retain"])


def test_its_expectation_is_the_smoothed_losss_gradient():
    """For L = 1/4 sum w^4, E (w + sigma z)^3 = w^3 + 3 sigma^2 w; for a quadratic, the plain gradient."""
    bowl = Quadratic()
    weights = Weights(bowl.named)
    w = flat(weights.parameters)
    draws, sigma = 4000, 0.5
    smoother = Rs(sigma=sigma, draws=draws)
    roles = {"forget": Role("forget")}
    linear = flat(smoother.gradients(gradients_of(bowl, weights), weights, roles)["forget"])
    error = bowl.curve["forget"].norm(dim=1) * sigma / draws**0.5
    assert ((linear - bowl.curve["forget"] @ w - bowl.slope["forget"]).abs() < 5 * error).all()
    bowl.loss = lambda role, draw: 0.25 * sum(part.pow(4).sum() for part in bowl.named.values())
    cubic = flat(smoother.gradients(gradients_of(bowl, weights), weights, roles)["forget"])
    expected = w**3 + 3 * sigma**2 * w
    variance = 9 * w**4 * sigma**2 + 36 * w**2 * sigma**4 + 15 * sigma**6  # an upper bound, term by term
    assert ((cubic - expected).abs() < 5 * (variance / draws).sqrt()).all()


def test_noise_depends_on_seed_and_step_alone_and_a_repeated_step_repeats_it():
    bowl = Quadratic()
    weights = Weights(bowl.named)

    def found(step, seed):
        smoother = Rs(sigma=0.1)
        smoother.begin(step, 9, seed)
        runs = [smoother.gradients(gradients_of(bowl, weights), weights, ROLES) for _ in range(2)]
        assert torch.equal(flat(runs[0]["forget"]), flat(runs[1]["forget"]))
        return flat(runs[0]["forget"])

    assert torch.equal(found(3, 1), found(3, 1))
    assert not torch.equal(found(3, 1), found(4, 1))
    assert not torch.equal(found(3, 1), found(3, 2))


def test_every_role_is_first_seen_at_the_weights_as_they_stand():
    bowl = Quadratic()
    weights = Weights(bowl.named)
    start = flat(weights.parameters).clone()
    seen = []
    loss = bowl.loss
    bowl.loss = lambda role, draw: (
        seen.append((role, torch.equal(flat(weights.parameters), start))) or loss(role, draw)
    )
    Rs(sigma=0.1, draws=2).gradients(gradients_of(bowl, weights), weights, ROLES)
    assert seen[:3] == [("retain", True), ("forget", True), ("further", True)]
    assert seen[3:] == [("forget", False), ("further", False)] * 2
    assert torch.equal(flat(weights.parameters), start)


def test_sigma_zero_is_the_plain_gradient_bit_for_bit():
    bowl = Quadratic()
    weights = Weights(bowl.named)
    plain = NoSmoother().gradients(gradients_of(bowl, weights), weights, ROLES)
    found = Rs(sigma=0).gradients(gradients_of(bowl, weights), weights, ROLES)
    assert all(torch.equal(flat(plain[name]), flat(found[name])) for name in ROLES)


def test_wrong_settings_are_refused():
    with pytest.raises(UserError, match="rs: sigma must be at least 0"):
        Rs(sigma=-1)
    with pytest.raises(UserError, match="rs: draws must be at least 1"):
        Rs(draws=0)
