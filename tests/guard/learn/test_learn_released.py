"""The released rule against a straight transcription of its equations, bit for bit."""

from __future__ import annotations

import math

import pytest
import torch

from attack.attacked import assert_untouched, diffusion, snapshot
from guard.learning import cars, dogs, problem
from oubliette.core.errors import UserError
from oubliette.guard.learn.budget import Budget
from oubliette.guard.learn.draws import rng_for
from oubliette.guard.learn.problem import Problem
from oubliette.guard.learners.released import Released, ReleasedOptions, ReleasedRule, joint_batches

T, RHO, C, MASK_LR, USER_LR = 0.2, 0.3, 5e3, 10.0, 1e-3
OPTIONS = ReleasedOptions(user_learning_rate=USER_LR, interval=3, steps=6)


class Transcription:
    """FreezeAsGuard's rule as its equations stand, one scalar x a tensor, all gradients at once.

    x ~ U[0, 1) and d in bf16, theta(m) in fp32:
    start:      theta <- theta_ft + d sigmoid(x / T)
    publisher:  x_i <- x_i - mask_lr <d_i, g_i> m_i (1 - m_i) / T - c 2 (mean m - rho) m_i (1 - m_i) / (T N)
                theta_i <- theta_i + d_i (sigmoid(x_i new / T) - sigmoid(x_i old / T))
    user:       delta_i = -user_lr (1 - m_i) g_i
                theta_i <- theta_i + (1 - m_i) delta_i;  d_i <- d_i - delta_i
    """

    def __init__(self, model, names, differences, start):
        self.model, self.names = model, names
        tensors = model.tensors()
        self.theta = [tensors[name] for name in names]
        self.d = [differences[name].clone() for name in names]
        self.x = [x.to(torch.bfloat16) for x in start]
        for theta, d, x in zip(self.theta, self.d, self.x, strict=True):
            tuned = theta.detach() - d
            theta.data = tuned + d * torch.sigmoid(x / T)

    def denoising(self, batch):
        """The mean over rows of each row's mean squared error of epsilon."""
        model = self.model
        noisy = model.add_noise(batch.clean, batch.noise, batch.t)
        predicted = model.predict(noisy, batch.t, model.encode_text(batch.captions))
        return ((predicted - batch.noise) ** 2).flatten(1).mean(dim=1).mean()

    def gradients(self, loss):
        return torch.autograd.grad(loss, self.theta)

    def losses(self, sides):
        return [torch.zeros(()) if side is None else self.denoising(side.batch) for side in sides]

    def publisher(self, sides, rows):
        for theta in self.theta:
            theta.requires_grad_(True)
        target, innocent = self.losses(sides)
        target = target * rows[0] / (rows[0] + 1e-5)
        innocent = innocent * rows[1] / (rows[1] + 1e-5)
        gradients = self.gradients(0.5 * (-target + innocent))
        before = [torch.sigmoid(x / T) for x in self.x]
        mean = torch.stack(before).float().mean()
        for i, g in enumerate(gradients):
            m = before[i].float()
            u = MASK_LR * torch.dot(self.d[i].float().flatten(), g.flatten()) * (m * (1 - m) / T)
            q = C * 2 * (mean - RHO) / len(self.x) * (m * (1 - m) / T)
            self.x[i] = self.x[i] - u.to(torch.bfloat16) - q.to(torch.bfloat16)
            grown = torch.sigmoid(self.x[i] / T) - before[i]
            self.theta[i].data = self.theta[i].data + self.d[i] * grown

    def user(self, sides, rows):
        for theta in self.theta:
            theta.requires_grad_(True)
        target, innocent = self.losses(sides)
        gradients = self.gradients((target * rows[0] + innocent * rows[1]) / sum(rows))
        for i, g in enumerate(gradients):
            free = 1 - torch.sigmoid(self.x[i] / T).float()
            delta = g * (-USER_LR * free)
            self.theta[i].data = self.theta[i].data + free * delta
            self.d[i] = (self.d[i].float() - delta).to(torch.bfloat16)


def _problem(seed: int = 0) -> Problem:
    # A UNet is a chaotic enough function that any step taken otherwise shows in the bits a step later.
    return problem(diffusion(), each="tensor", seed=seed)


def test_every_x_d_and_theta_is_the_transcription_s():
    found, twin = _problem(), _problem()
    names = found.candidates.names
    start = torch.rand(len(names), generator=rng_for(found.seed, "released", "x"))
    plain = Transcription(twin.model, names, twin.difference, start)
    rule = ReleasedRule(found, RHO, OPTIONS)

    def assert_equal(when):
        assert torch.equal(rule.x, torch.stack(plain.x)), when
        for name, d, theta in zip(names, plain.d, plain.theta, strict=True):
            assert torch.equal(found.difference[name], d), (when, name)
            assert torch.equal(found.parameters[name], theta), (when, name)

    assert rule.x.dtype == torch.bfloat16
    assert_equal("at the start")
    kinds = []
    for (place, sides, rows), (_, again, _) in zip(joint_batches(found), joint_batches(twin), strict=True):
        kind = "publisher" if place % OPTIONS.interval == 0 else "user"
        before = rule.x.clone()
        if kind == "publisher":
            rule.publish(sides, rows)
            plain.publisher(again, rows)
            assert not torch.equal(rule.x, before)
        else:
            rule.use(sides, rows)
            plain.user(again, rows)
        kinds.append(kind)
        assert_equal((len(kinds), kind))
        if len(kinds) == 8:
            break
    assert kinds.count("publisher") >= 3
    assert kinds.count("user") >= 3


def test_two_passes_are_the_joint_batch():
    """The mixed loss of flags in one joint batch, as released, to rounding."""
    found = _problem()
    _, sides, rows = next(batch for batch in joint_batches(found) if min(batch[2]) > 0)
    model = found.model
    batches = [side.batch for side in sides]
    clean, noise, t = (
        torch.cat([getattr(batch, part) for batch in batches]) for part in ("clean", "noise", "t")
    )
    text = model.encode_text([caption for batch in batches for caption in batch.captions])
    flags = torch.tensor([1.0] * rows[0] + [0.0] * rows[1])
    errors = (model.predict(model.add_noise(clean, noise, t), t, text) - noise).square().flatten(1).mean(1)
    target = (errors * flags).sum() / (flags.sum() + 1e-5)
    innocent = (errors * (1 - flags)).sum() / ((1 - flags).sum() + 1e-5)
    rule = ReleasedRule(found, RHO, OPTIONS)
    found.base.restore(found.parameters)
    assert rule.publish(sides, rows) == pytest.approx(float(0.5 * (innocent - target)), abs=1e-6)


def test_the_start_is_an_almost_full_mask():
    """x ~ U[0, 1) at T = 0.2: mean m = T log((1 + e^(1/T)) / 2) = 0.863, and no m below 1/2."""
    found = _problem()
    mask = ReleasedRule(found, RHO, OPTIONS).mask().float()
    assert float(mask.mean()) == pytest.approx(0.2 * math.log((1 + math.exp(5)) / 2), abs=0.04)
    assert float(mask.min()) >= 0.5


def test_one_publisher_step_throws_the_share_from_one_end_to_the_other():
    """What 5e3 does: with x in [0, 1), the penalty's first step moves it by up to 12 at 686 tensors."""
    found = _problem()
    rule = ReleasedRule(found, 0.2, ReleasedOptions(sparsity=5e3 * len(found.candidates) / 686))
    before = float(rule.mask().float().mean())
    _, sides, rows = next(joint_batches(found))
    rule.publish(sides, rows)
    mask = rule.mask().float()
    assert before > 0.8
    assert float(mask.mean()) < 0.4
    assert float(((mask < 0.01) | (mask > 0.99)).float().mean()) > 0.5


def test_batches_are_an_epoch_s():
    found = _problem()
    batches = joint_batches(found)
    epoch = [next(batches) for _ in range(3)]  # 4 + 6 rows in batches of 4
    assert [place for place, _, _ in epoch] == [0, 1, 2]
    assert [sum(rows) for _, _, rows in epoch] == [4, 4, 2]
    assert sum(rows[0] for _, _, rows in epoch) == 4
    assert sum(rows[1] for _, _, rows in epoch) == 6
    assert next(batches)[0] == 0  # the count starts anew
    for _, sides, rows in epoch:
        assert [side is None for side in sides] == [count == 0 for count in rows]


def test_the_learner_s_own_mask_and_bits():
    found = _problem()
    before = snapshot(found.model)
    differences = {name: tensor.clone() for name, tensor in found.difference.tensors.items()}
    learned = Released(OPTIONS).learn(found, Budget(RHO))
    assert_untouched(found.model, before)
    assert all(torch.equal(found.difference[name], tensor) for name, tensor in differences.items())
    assert learned.own is not None
    assert set(learned.own) == {name for name, x in learned.scores.items() if x > 0}
    assert learned.facts["steps"] == 6


def test_data_that_cannot_be_shuffled_are_refused():
    model = diffusion()
    with pytest.raises(UserError, match=r"one batch of 12, always the publisher's; a batch below 5"):
        next(joint_batches(problem(model, batch=6)))

    class Endless:
        def draw(self, rng, count):
            raise AssertionError

        loss = draw

    endless = problem(model, illegal=[Endless()], innocent=[dogs(model), cars(model)])
    with pytest.raises(UserError, match="how many rows"):
        next(joint_batches(endless))
