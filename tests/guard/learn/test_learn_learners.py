"""What every registered learner and baseline must satisfy, and what each of them measures."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from attack.attacked import assert_untouched, diffusion, snapshot
from guard.learning import SHORT, cars, dogs, problem, shaken
from oubliette.core.errors import UserError
from oubliette.guard.layers import layer_type
from oubliette.guard.learn.budget import Budget, cut
from oubliette.guard.learn.draws import Picked, paired, rng_for
from oubliette.guard.learn.problem import Found, curve, make_learner
from oubliette.guard.learn.slopes import loss_of, slopes
from oubliette.guard.learners import BASELINES, LEARNERS


def found_by(name: str, given: Any, budget: Budget = Budget(0.3), **options: Any) -> Found:  # noqa: B008
    return make_learner({"name": name, **SHORT[name], **options}).learn(given, budget)


@pytest.fixture(scope="module")
def model():
    return diffusion()


@pytest.mark.parametrize("name", LEARNERS.names())
def test_every_learner_keeps_the_contract(name, model):
    kind = LEARNERS.get(name)
    assert kind.name == name
    assert kind.about
    assert kind.paper
    budget = Budget(0.3)
    given = problem(model)
    before = snapshot(model)
    differences = {key: tensor.clone() for key, tensor in given.difference.tensors.items()}
    found = found_by(name, given, budget)
    assert_untouched(model, before)
    assert all(torch.equal(given.difference[key], tensor) for key, tensor in differences.items())
    assert list(found.scores) == given.candidates.names
    assert all(math.isfinite(score) for score in found.scores.values())
    frozen = cut(found.scores, given.candidates, budget, order=found.order)
    costs = dict(zip(given.candidates.names, budget.costs(given.candidates), strict=True))
    used, limit = sum(costs[key] for key in frozen), budget.limit(list(costs.values()))
    assert used <= limit
    assert all(used + costs[key] > limit for key in costs if key not in frozen)
    again = found_by(name, problem(model), budget)  # the same seed: the same bits
    assert again.scores == found.scores
    if name not in ("largest",):
        assert found_by(name, problem(model, seed=1), budget).scores != found.scores


@pytest.mark.parametrize("name", [name for name in LEARNERS.names() if name not in ("random", "largest")])
def test_the_model_comes_back_from_an_error(name, model, monkeypatch):
    given = problem(model)
    before = snapshot(model)
    differences = {key: tensor.clone() for key, tensor in given.difference.tensors.items()}
    calls = []

    class Failing:
        """Innocent data that give out after a few batches."""

        def __init__(self, data):
            self.data = data

        def __len__(self):
            return len(self.data)

        def draw(self, rng, count):
            return self.data.draw(rng, count)

        def loss(self, model, batch):
            calls.append(1)
            if len(calls) > 2:
                raise RuntimeError("out of memory")
            return self.data.loss(model, batch)

    given.illegal = [Failing(given.illegal[0])]
    if name == "layer-type":
        with pytest.raises(UserError, match="has no layer of type 'embedding'; it has attention"):
            found_by(name, given, type="embedding")
    else:
        more = {"batches": 5} if "batches" in LEARNERS.get(name).Options.model_fields else {}
        with pytest.raises(RuntimeError, match="out of memory"):
            found_by(name, given, **more)
    assert_untouched(model, before)
    assert all(torch.equal(given.difference[key], tensor) for key, tensor in differences.items())


def test_names_and_options_are_checked():
    with pytest.raises(UserError, match="no guard learner is called 'salency'; did you mean 'saliency'"):
        make_learner("salency")
    with pytest.raises(
        UserError, match="guard learner 'saliency': unknown key 'batch'; did you mean 'batches'"
    ):
        make_learner({"name": "saliency", "batch": 3})
    with pytest.raises(UserError, match=r"guard learner 'bilevel': 'temperature'.*not above the first"):
        make_learner({"name": "bilevel", "temperature": [0.1, 1.0]})
    assert set(BASELINES) < set(LEARNERS)


def test_saliency_is_complete(model):
    """Without the innocent side the scores sum to what the illegal loss fell by (midpoint rule)."""
    given = problem(model, dtype="float32")
    picked = paired(given.illegal, given.innocent, given.batch, given.seed, "saliency", 0)[0]
    ends = []
    with given.mixed() as mixed:
        for share in (1.0, 0.0):
            mixed.hold(share)
            ends.append(loss_of(given, picked))
    found = found_by("saliency", given, batches=1, points=16, beta=0)
    assert abs(ends[0] - ends[1]) > 1e-3
    assert sum(found.scores.values()) == pytest.approx(ends[0] - ends[1], rel=2e-2)
    assert not found.order


def test_saliency_tells_sides_apart(model):
    """beta weighs the innocent side; with the sides swapped and beta = 1 the scores turn over."""
    sides = {"illegal": [cars(model, 6)], "innocent": [dogs(model, 6)]}
    one = found_by("saliency", problem(model, **sides))
    other = found_by("saliency", problem(model, illegal=sides["innocent"], innocent=sides["illegal"]))
    for name, score in one.scores.items():
        assert other.scores[name] == pytest.approx(-score, abs=1e-7)
    alone = found_by("saliency", problem(model, **sides), beta=0)
    assert alone.scores != one.scores


def test_a_tensor_that_was_not_moved_is_worth_nothing(model):
    """Whatever its gradient: freezing it takes nothing from anyone."""
    tuned = shaken(model)
    still = "unet.conv_in.weight"
    tuned[still] = model.tensors()[still].detach().clone()
    tuned["unet.conv_in.bias"] = model.tensors()["unet.conv_in.bias"].detach().clone()
    given = problem(model)
    given.difference = type(given.difference).between(model, given.candidates, tuned)
    for name in ("saliency", "gradient-difference"):
        assert found_by(name, given).scores[still] == 0


def test_layer_type_comes_first(model):
    given = problem(model)
    found = found_by("layer-type", given, type="attention")
    kinds = {unit.name: layer_type(unit.name, unit.dimensions) for unit in given.candidates.units}
    ranked = sorted(found.scores, key=lambda name: -found.scores[name])
    count = sum(kind == "attention" for kind in kinds.values())
    assert {kinds[name] for name in ranked[:count]} == {"attention"}
    small = cut(found.scores, given.candidates, Budget(found.facts["share_of_type"] / 2), order=True)
    assert all(kinds[name] == "attention" for name in small if given.candidates.parameters)


def test_largest_comes_first(model):
    given = problem(model)
    found = found_by("largest", given)
    sizes = {unit.name: unit.parameters for unit in given.candidates.units}
    assert found.scores == pytest.approx(sizes)


def test_random_masks_hit_the_share_of_parameters(model):
    given = problem(model)
    shares = []
    for seed in range(5):
        given.seed = seed
        names = cut(found_by("random", given).scores, given.candidates, Budget(0.5), order=True)
        shares.append(given.candidates.shares(given.candidates.expand(names)).parameters)
    assert all(0.49 < share <= 0.5 for share in shares)


def test_fisher_ratio_is_the_squared_gradients(model):
    given = problem(model)
    found = found_by("fisher-ratio", given, batches=1)
    pair = paired(given.illegal, given.innocent, given.batch, given.seed, "fisher-ratio", 0)
    squares = []
    parameters = list(given.parameters.values())
    for picked in pair:
        for parameter in parameters:
            parameter.requires_grad_(True)
        gradients = torch.autograd.grad(picked.loss(model), parameters)
        totals = dict.fromkeys(given.candidates.names, 0.0)
        for name, gradient in zip(given.parameters, gradients, strict=True):
            totals[given.candidates.units[given.candidates.place[name]].name] += float(
                gradient.square().sum()
            )
        squares.append(totals)
        for parameter in parameters:
            parameter.requires_grad_(False)
    for name, ratio in found.scores.items():
        assert ratio == pytest.approx(squares[0][name] / squares[1][name], rel=1e-4)


def test_gradient_difference_is_taken_at_theta_ft(model):
    given = problem(model, dtype="float32")
    found = found_by("gradient-difference", given, batches=1)
    picked, _ = paired(given.illegal, given.innocent, given.batch, given.seed, "gradient-difference", 0)
    with given.mixed() as mixed:
        mixed.hold(0.0)
        _, signed = slopes(given, picked)
    for name, slope in zip(given.candidates.names, signed.tolist(), strict=True):
        assert found.scores[name] >= abs(slope) - 1e-6


def test_a_block_is_frozen_whole(model):
    given = problem(model)
    found = found_by("block", given)
    assert len(set(found.scores.values())) == len(found.facts["blocks"])
    best = max(found.facts["blocks"], key=found.facts["blocks"].get)
    inside = [unit for unit in given.candidates.units if unit.name.startswith(best + ".")]
    share = sum(unit.parameters for unit in inside) / given.candidates.parameters
    names = cut(found.scores, given.candidates, Budget(min(0.99, share + 1e-6)), order=True)
    assert {unit.name for unit in inside} <= set(names)


def test_curves_are_thin():
    assert curve([]) == []
    assert curve([1.23456789]) == [1.23457]
    thin = curve([float(place) for place in range(1000)])
    assert (len(thin), thin[0], thin[-1]) == (50, 0.0, 999.0)


def test_a_score_that_is_not_finite_is_one_line(model):
    given = problem(model)
    with pytest.raises(UserError, match="is not finite"):
        Found.of(given.candidates, [float("nan")] * len(given.candidates))


def test_a_loss_alone_leaves_no_graph(model):
    given = problem(model)
    data = given.illegal[0]
    assert loss_of(given, Picked(data, data.draw(rng_for(0), 2))) > 0
