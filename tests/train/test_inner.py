"""Inner roles, further draws of a step, and roles with a batch of their own."""

from __future__ import annotations

import pytest
import torch

from oubliette.train.config import TrainConfig
from oubliette.train.loop import Loop
from oubliette.train.roles import Draw, Role
from oubliette.train.smoothing import NoSmoother
from oubliette.train.surgery import Sum
from oubliette.train.weights import Weights

from .landscape import flat
from .models import Attacked, MlpBackend

CONFIG = TrainConfig(steps=3, batch=4, learning_rate=1e-2, accumulation=2)


class Told(Attacked):
    """Keeps every draw that was made, and whether an adversary had its turn on it."""

    def __init__(self):
        super().__init__()
        self.draws = []

    def draw(self, step, rng, batch):
        draw = super().draw(step, rng, batch)
        draw["step"] = step
        self.draws.append(draw)
        return draw

    def before(self, step, draw):
        draw["met"] = True


class Asking(NoSmoother):
    """Takes gradients on the step's own draw and on further ones, and keeps them."""

    def __init__(self, *numbers):
        self.numbers, self.found, self.inner = numbers, [], None

    def gradients(self, at, weights, roles):
        self.inner = dict(at.inner)
        self.found.append([flat(at.fresh(number)("relearn")) for number in self.numbers])
        return super().gradients(at, weights, roles)


class Watched(Sum):
    """Keeps the names of what it combines."""

    def combine(self, grads, roles):
        self.seen = set(grads), set(roles)
        return super().combine(grads, roles)


def loop_of(objective, smoother, config=CONFIG, **options):
    model = MlpBackend()
    weights = Weights(model.tensors())
    return Loop(model, objective, None, weights, config, smoother=smoother, show_progress=False, **options)


def test_a_smoother_sees_inner_roles_and_a_surgery_does_not():
    smoother, surgery = Asking(), Watched()
    loop = loop_of(Attacked(), smoother, surgery=surgery)
    losses = loop.advance(1)
    assert smoother.inner == {"relearn": Role("inner", batch=0.5)}
    assert surgery.seen == ({"forget", "retain"}, {"forget", "retain"})
    assert set(losses) == {"forget", "retain"}  # nobody asked for the attacker's


def test_the_loss_of_an_inner_role_is_logged_where_it_was_asked_for_on_the_steps_own_draw():
    class Own(NoSmoother):
        def gradients(self, at, weights, roles):
            at("relearn")
            return super().gradients(at, weights, roles)

    assert set(loop_of(Attacked(), Own()).advance(1)) == {"forget", "retain", "relearn"}


def test_an_inner_role_changes_no_bit_where_no_one_asks():
    class Plain(Attacked):
        def roles(self, step):
            return {name: role for name, role in super().roles(step).items() if name != "relearn"}

        def draw(self, step, rng, batch):
            return Draw(index=torch.randint(len(self.x["forget"]), (batch,), generator=rng))

    ends = []
    for objective in (Attacked(), Plain()):
        loop = loop_of(objective, NoSmoother())
        loop.run()
        ends.append(flat(loop.weights.parameters))
    assert torch.equal(*ends)


def test_further_draws_are_other_ones_and_the_same_whenever_they_are_asked_for():
    objective, smoother = Told(), Asking(1, 2, 1)
    loop = loop_of(objective, smoother)
    loop.advance(2)
    for first, second, again in smoother.found:
        assert torch.equal(first, again)
        assert not torch.equal(first, second)
    # Two micro-batches of the step's own, and of each further draw, made once.
    assert [draw["step"] for draw in objective.draws] == [0] * 6 + [1] * 6
    assert all(draw["met"] for draw in objective.draws)
    for number, draw in enumerate(objective.draws):
        assert not any(torch.equal(draw["index"], other["index"]) for other in objective.draws[:number])


def test_a_further_draw_depends_on_seed_step_and_number_alone():
    both, objective = Asking(1, 2), Told()
    loop_of(objective, both, seed=5).advance(2)
    second, later = Asking(2), Told()
    loop = loop_of(later, second, seed=5)
    loop.advance(1)
    # The first step's weights are the same, and so is its second further draw without the first.
    assert torch.equal(second.found[0][0], both.found[0][1])
    other = Asking(2)
    loop_of(Told(), other, seed=6).advance(1)
    assert not torch.equal(other.found[0][0], second.found[0][0])


def test_gradients_that_overflowed_are_taken_anew_on_the_same_draws():
    class Steep(Told):
        def loss(self, role, draw):
            return super().loss(role, draw) * 1e3

    objective, smoother = Steep(), Asking(1)
    loop = loop_of(objective, smoother, CONFIG.model_copy(update={"precision": "fp16"}))
    loop.advance(1)
    assert len(smoother.found) > 1
    assert len(objective.draws) == 4


def test_draws_begin_at_one():
    with pytest.raises(ValueError, match="no further draw 0"):
        loop_of(Attacked(), Asking(0)).advance(1)


def test_a_step_of_inner_roles_alone_moves_nothing_and_is_an_error():
    class Idle(Attacked):
        def roles(self, step):
            return {"relearn": Role("inner")}

    with pytest.raises(ValueError, match="no role with a part in step 0"):
        loop_of(Idle(), NoSmoother()).advance(1)


def test_a_roles_items_are_its_factor_times_the_batch_and_at_least_one():
    assert [Role("retain", batch=3).items(batch) for batch in (1, 4)] == [3, 12]
    assert [Role("inner", batch=0.5).items(batch) for batch in (1, 2, 8)] == [1, 1, 4]
    assert Role("forget").items(7) == 7
    assert Role("retain", batch=0.6).items(3) == 2
    for factor in (0, -1, float("nan")):
        with pytest.raises(ValueError, match="a factor above 0"):
            Role("retain", batch=factor)
    with pytest.raises(ValueError, match="only a helper has its own parameters"):
        Role("inner", parameters=(torch.nn.Parameter(torch.zeros(1)),))
    assert [Role(kind).moves for kind in ("forget", "retain", "inner")] == [True, True, False]
