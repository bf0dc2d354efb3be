"""The repaired bilevel learner: schedule, start, bounded losses, its user, and what it finds."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch

from attack.attacked import assert_untouched, diffusion, snapshot
from guard.learning import SHORT, USER, problem
from oubliette.core.errors import UserError
from oubliette.guard.learn.budget import Budget, cut, soft_mask
from oubliette.guard.learn.draws import seed_for
from oubliette.guard.learn.problem import make_learner
from oubliette.guard.learn.slopes import slopes
from oubliette.guard.learn.user import User
from oubliette.guard.learners.bilevel import Bilevel, BilevelOptions, standardised, temperature_at


@pytest.fixture(scope="module")
def model():
    return diffusion()


def test_the_temperature_falls_geometrically_over_the_soft_steps():
    heats = [temperature_at(step, 10, (1.0, 0.01)) for step in range(13)]
    assert heats[0] == 1.0
    assert heats[9:] == [pytest.approx(0.01)] * 4
    ratios = [after / before for before, after in pairwise(heats[:10])]
    assert ratios == [pytest.approx(ratios[0])] * 9
    assert temperature_at(0, 0, (1.0, 0.05)) == pytest.approx(0.05)  # hard from the first step


def test_normal_scores_keep_the_order_and_forget_the_tails():
    values = torch.tensor([1e9, 0.0, -3.0, 0.0, 2.0])
    found = standardised(values)
    assert found[1] == found[3]
    assert torch.equal(torch.argsort(found[[2, 1, 4, 0]]), torch.arange(4))
    assert float(found.abs().max()) < 2
    assert torch.equal(standardised(torch.zeros(3)), torch.zeros(3).double())


def test_the_upper_loss_is_bounded_by_the_base_s(model):
    """Where the illegal loss is above its value at theta_pre, its gradient no longer counts."""
    given = problem(model)
    learner = Bilevel(BilevelOptions(pool=1, batches=1))
    pool = learner._pool(given)
    with given.mixed() as mixed:
        mixed.hold(0.5)
        illegal, slope_i = slopes(given, pool[0].illegal)
        _, slope_n = slopes(given, pool[0].innocent)
        reached = [
            type(pool[0])(pool[0].illegal, pool[0].innocent, cap) for cap in (illegal * 0.9, illegal * 1.1)
        ]
        over, _ = learner._upper(given, reached[:1], 0)
        under, means = learner._upper(given, reached[1:], 0)
        ratio, _ = Bilevel(BilevelOptions(pool=1, batches=1, loss="log-ratio"))._upper(given, reached[1:], 0)
    torch.testing.assert_close(over, slope_n)
    torch.testing.assert_close(under, slope_n - slope_i)
    torch.testing.assert_close(ratio, slope_n / means["innocent"] - slope_i / means["illegal"])


def test_the_caps_are_losses_at_the_base(model):
    given = problem(model)
    for pair in Bilevel(BilevelOptions(pool=2))._pool(given):
        with torch.no_grad():
            assert pair.cap == pytest.approx(float(pair.illegal.loss(model)))


def test_the_user_moves_theta_ft_and_no_frozen_tensor(model):
    given = problem(model)
    before = snapshot(model)
    frozen = set(given.candidates.units[2].tensors)
    mask = torch.full((len(given.candidates),), 0.4)
    with given.mixed() as mixed, given.difference.movable():
        start = {name: tensor.clone() for name, tensor in given.difference.tensors.items()}
        mixed.hold(mask)
        held = {name: parameter.detach().clone() for name, parameter in given.parameters.items()}
        user = User(given, USER, [given.illegal], frozen, seed_for(0, "user"))
        assert user.advance(2, mixed, mask) > 0
        for name, parameter in given.parameters.items():
            moved = parameter.detach() - held[name]
            if name in frozen:
                assert not moved.any()
                assert torch.equal(given.difference[name], start[name])
            else:
                # AdamW: about the learning rate a step, whatever the mask
                assert 0 < float(moved.abs().max()) < 3 * USER.learning_rate
                expected = start[name].float() - moved
                torch.testing.assert_close(given.difference[name].float(), expected, rtol=2**-7, atol=2**-12)
    assert_untouched(model, before)


def test_the_loop_s_copy_of_the_base_is_let_go(model):
    given = problem(model)
    with given.mixed() as mixed, given.difference.movable():
        user = User(given, USER, [given.illegal], set(), 1)
        assert user._loop.weights.original == {}
        user.advance(1, mixed, torch.zeros(len(given.candidates)))


def test_a_user_of_16_bit_weights_is_refused():
    model = diffusion(dtype=torch.bfloat16)
    given = problem(model)
    before = snapshot(model)
    learner = Bilevel(BilevelOptions(**SHORT["bilevel"]))
    with pytest.raises(UserError, match="open the model in float32, or set user_steps=0"):
        learner.learn(given, Budget(0.3))
    found = Bilevel(BilevelOptions(**{**SHORT["bilevel"], "user_steps": 0})).learn(given, Budget(0.3))
    assert len(found.scores) == len(given.candidates)
    assert_untouched(model, before)


class Planted:
    """A loss that depends on one tensor: the distance of its mean from where theta_ft has it."""

    def __init__(self, name: str, goal: float) -> None:
        self.name, self.goal = name, goal

    def __len__(self) -> int:
        return 8

    def draw(self, rng, count):
        return torch.rand(1, generator=rng)

    def loss(self, model, batch):
        others = sum((0.0 * tensor).sum() for tensor in model.tensors().values() if tensor.requires_grad)
        # With a floor, as every denoising loss has one: the logarithm's slope at 0 would be rounding alone.
        return 0.1 + 1e3 * (model.tensors()[self.name].mean() - self.goal).square() + 0 * batch.sum() + others


@pytest.mark.parametrize(
    ("learner", "options"),
    [
        ("bilevel", {"start": "saliency"}),
        ("bilevel", {"start": "zero"}),
        ("bilevel", {"start": "zero", "normalise": "adam"}),
        ("bilevel", {"start": "zero", "loss": "log-ratio", "user_steps": 0}),
        ("saliency", {}),
    ],
)
def test_a_planted_tensor_is_found_and_an_innocent_one_spared(learner, options, model):
    """Only one tensor serves the illegal loss, another the innocent: the first is frozen, the second not."""
    given = problem(model, dtype="float32")
    # The innocent one is the largest, or it would be taken last to fill what is left of the budget.
    units = sorted(given.candidates.units, key=lambda unit: unit.parameters)
    wrong, right = units[len(units) // 2].name, units[-1].name
    goals = {}
    with torch.no_grad():
        for unit in (wrong, right):
            given.difference[unit].fill_(-0.1)
            goals[unit] = float(model.tensors()[unit].mean()) + 0.1
    given.illegal, given.innocent = [Planted(wrong, goals[wrong])], [Planted(right, goals[right])]
    if learner == "bilevel":
        options = {"steps": 20, "batches": 1, "pool": 2, "user_steps": 1, "learning_rate": 0.2, **options}
    else:
        options = {"batches": 2}
    found = make_learner({"name": learner, **options}).learn(given, Budget(0.3))
    ranked = sorted(found.scores, key=lambda key: -found.scores[key])
    assert ranked[0] == wrong
    assert ranked[-1] == right
    frozen = cut(found.scores, given.candidates, Budget(0.3), order=found.order)
    assert wrong in frozen
    assert right not in frozen


def test_a_budget_of_tensors_is_kept_too(model):
    given = problem(model)
    budget = Budget(0.4, "tensors")
    found = Bilevel(BilevelOptions(**SHORT["bilevel"])).learn(given, budget)
    x = torch.tensor(list(found.scores.values()))
    costs = torch.tensor(budget.costs(given.candidates), dtype=torch.float64)
    assert float((soft_mask(x, costs, 0.4, 0.1) * costs).sum()) == pytest.approx(0.4 * float(costs.sum()))
    frozen = given.candidates.expand(cut(found.scores, given.candidates, budget, order=True))
    assert given.candidates.shares(frozen).tensors <= 0.4
