"""Refresh learning against its two forms written out by hand."""

import pytest
import torch

from oubliette.core.errors import UserError
from oubliette.train.config import TrainConfig
from oubliette.train.gradients import step_rng
from oubliette.train.loop import Loop
from oubliette.train.roles import Role
from oubliette.train.smoothing import NoSmoother, Refresh
from oubliette.train.weights import Weights

from .landscape import ROLES, Quadratic, flat, gradients_of
from .models import MlpBackend, TwoTasks

RETAIN = {"retain": Role("retain", weight=3.0)}


def at_work(smoother, roles=ROLES, step=0, seed=0):
    bowl = Quadratic()
    weights = Weights(bowl.named)
    smoother.begin(step, 10, seed)
    found = smoother.gradients(gradients_of(bowl, weights), weights, roles)
    return bowl, weights, found


def loop_of(smoother, steps=4, **options):
    model = MlpBackend()
    config = TrainConfig(
        steps=steps, batch=4, learning_rate=1e-2, optimizer="sgd", betas=(0, 0), weight_decay=0
    )
    weights = Weights(model.tensors(), **options)
    return Loop(model, TwoTasks(), None, weights, config, smoother=smoother, seed=3, show_progress=False)


def test_without_an_ascent_it_is_the_base_bit_for_bit():
    ends = [loop_of(each) for each in (NoSmoother(), Refresh(J=0), Refresh("paper", J=0))]
    for loop in ends:
        loop.run()
    plain, *others = [flat(loop.weights.parameters) for loop in ends]
    assert all(torch.equal(plain, other) for other in others)


@pytest.mark.parametrize("delta", [1e-5, 0.3])
def test_the_released_form_moves_each_tensor_by_delta_times_its_norm(delta):
    smoother = Refresh(delta=delta, noise=0, precondition="identity")
    bowl, weights, found = at_work(smoother)
    w = flat(weights.parameters)
    slope = bowl.curve["retain"] @ w + bowl.slope["retain"]
    for move, parameter, part in zip(smoother.move(), weights.parameters, slope.split([4, 3]), strict=True):
        assert float(move.norm()) == pytest.approx(delta * float(parameter.detach().norm()), rel=1e-12)
        assert float(torch.cosine_similarity(move.flatten(), part, dim=0)) == pytest.approx(1, abs=1e-12)
    moved = w + flat(smoother.move())
    for name in ROLES:  # every role is relearned there, the climbed one too
        torch.testing.assert_close(flat(found[name]), bowl.curve[name] @ moved + bowl.slope[name])


def test_the_released_form_with_noise_and_fisher_is_the_formula():
    fisher = {"a": torch.rand(2, 2, dtype=torch.float64) * 1e4, "b": torch.rand(3, dtype=torch.float64) * 1e4}
    smoother = Refresh(delta=0.1, noise=0.2)
    smoother.use_fisher(fisher)
    bowl, weights, _ = at_work(smoother, RETAIN, step=5, seed=2)
    w = flat(weights.parameters)
    slope = (bowl.curve["retain"] @ w + bowl.slope["retain"]).split([4, 3])
    rng = step_rng(2, 5, "refresh")
    for index, parameter in enumerate(weights.parameters):
        here, g = parameter.detach().flatten(), slope[index]
        noise = torch.randn(parameter.shape, generator=rng, dtype=torch.float64).flatten()
        n = here.norm() / (g.norm() + 1e-20) * g
        expected = 0.1 * (n + 0.2 * noise) / (1 + 0.001 * list(fisher.values())[index].flatten())
        torch.testing.assert_close(smoother.move()[index].flatten(), expected, atol=1e-12, rtol=1e-12)


def test_two_ascents_of_the_paper_form_are_the_formula():
    fisher = {"a": torch.rand(2, 2, dtype=torch.float64), "b": torch.rand(3, dtype=torch.float64)}
    smoother = Refresh("paper", J=2, gamma=0.1, noise=0.5, damping=0.3)
    smoother.use_fisher(fisher)
    bowl, weights, found = at_work(smoother, RETAIN, step=1, seed=7)
    start, precision = flat(weights.parameters), 1 / (flat(list(fisher.values())) + 0.3)
    rng, w = step_rng(7, 1, "refresh"), start
    for _ in range(2):
        noise = torch.cat(
            [torch.randn(p.shape, generator=rng, dtype=torch.float64).flatten() for p in weights.parameters]
        )
        slope = 3.0 * (bowl.curve["retain"] @ w + bowl.slope["retain"])  # the role's weight counts
        w = w + 0.1 * precision * slope + 0.5 * (2 * 0.1 * precision).sqrt() * noise
    torch.testing.assert_close(start + flat(smoother.move()), w, atol=1e-12, rtol=1e-12)
    torch.testing.assert_close(flat(found["retain"]), bowl.curve["retain"] @ w + bowl.slope["retain"])


def test_the_weights_stay_moved_and_the_update_is_added_to_that():
    """One step of SGD by hand: w + m - lr * (g_forget + g_retain)(w + m)."""
    loop = loop_of(Refresh(delta=0.2, noise=0), steps=1)
    start = [p.detach().clone() for p in loop.weights.parameters]
    drawn = []
    draw = loop.objective.draw
    loop.objective.draw = lambda *given: drawn.append(draw(*given)) or drawn[-1]
    loop.run()
    after = [p.detach().clone() for p in loop.weights.parameters]

    def gradient(role):
        return torch.autograd.grad(loop.objective.loss(role, drawn[0]), loop.weights.parameters)

    def put(values):
        for parameter, value in zip(loop.weights.parameters, values, strict=True):
            parameter.data = value.clone()

    put(start)
    moved = [w + 0.2 * w.norm() * g / g.norm() for w, g in zip(start, gradient("retain"), strict=True)]
    put(moved)
    for parameter in loop.weights.parameters:
        parameter.requires_grad_(True)
    both = [a + b for a, b in zip(gradient("forget"), gradient("retain"), strict=True)]
    for found, m, g in zip(after, moved, both, strict=True):
        torch.testing.assert_close(found, m - 1e-2 * g, atol=1e-6, rtol=1e-5)


def test_masked_elements_keep_their_bits():
    mask = torch.zeros(3, 7, dtype=torch.bool)
    mask[0] = True
    loop = loop_of(Refresh(delta=0.1, noise=0), element_masks={"net.second.weight": mask})
    loop.run()
    now, before = loop.model.net.second.weight.detach(), loop.weights.original["net.second.weight"]
    assert torch.equal(now[1:], before[1:])
    assert (now[0] != before[0]).all()


def test_what_is_climbed_is_what_on_says():
    w = flat(at_work(NoSmoother())[1].parameters)
    for on, names in (("further", ["further"]), ("forget", ["forget", "further"]), ("all", list(ROLES))):
        smoother = Refresh("paper", on=on, gamma=1e-3, noise=0, cap=1e9, precondition="identity")
        bowl, _, _ = at_work(smoother)
        slope = sum(ROLES[name].weight * (bowl.curve[name] @ w + bowl.slope[name]) for name in names)
        torch.testing.assert_close(flat(smoother.move()), 1e-3 * slope)


def test_a_forget_loss_is_climbed_with_a_cap_alone_and_no_further_than_it():
    for on in ("forget", "all"):
        with pytest.raises(UserError, match=r"climbs a forget loss.*smoother\.cap"):
            Refresh(on=on)
    with pytest.raises(UserError, match=r"climbs a forget loss.*smoother\.cap"):
        at_work(Refresh(on="further"))
    smoother = Refresh("paper", on="forget", gamma=10.0, cap=0.01)
    at_work(smoother)
    assert float(flat(smoother.move()).norm()) == pytest.approx(0.01)
    assert smoother.facts()["move_norm"] == 0.01


def test_a_step_without_such_a_role_is_plain_and_a_run_without_one_is_refused():
    smoother = Refresh(on="retain")
    forget = {name: role for name, role in ROLES.items() if role.kind == "forget"}
    at_work(smoother, RETAIN)
    assert smoother.facts()
    bowl, weights, found = at_work(smoother, forget)
    assert smoother.move() is None  # what the step before moved is not moved again
    assert not smoother.facts()
    plain = NoSmoother().gradients(gradients_of(bowl, weights), weights, forget)
    assert all(torch.equal(flat(plain[name]), flat(found[name])) for name in forget)
    smoother.check(ROLES)
    with pytest.raises(UserError, match=r"on is 'retain'.*found forget \(forget\), further \(forget\)"):
        smoother.check(forget)


def test_a_tensor_of_zeros_moves_by_its_noise_alone():
    bowl = Quadratic()
    with torch.no_grad():
        bowl.named["b"].zero_()
    weights = Weights(bowl.named)
    for noise in (0.0, 0.5):
        smoother = Refresh(delta=0.1, noise=noise)
        smoother.begin(0, 1, 0)
        smoother.gradients(gradients_of(bowl, weights), weights, RETAIN)
        assert bool(smoother.move()[1].any()) == bool(noise)


def test_without_a_given_fisher_it_is_a_running_mean_of_squared_gradients():
    smoother = Refresh("paper", gamma=0.1, noise=0, damping=2.0)
    bowl, weights, _ = at_work(smoother, RETAIN)
    slope = 3.0 * (bowl.curve["retain"] @ flat(weights.parameters) + bowl.slope["retain"])
    torch.testing.assert_close(flat(smoother.move()), 0.1 * slope / 2.0)
    smoother.after_step(weights, 0)
    smoother.begin(1, 10, 0)
    smoother.gradients(gradients_of(bowl, weights), weights, RETAIN)
    torch.testing.assert_close(flat(smoother.move()), 0.1 * slope / (0.1 * slope.square() + 2.0))
    again = Refresh("paper")
    again.load_state(smoother.state())
    assert all(torch.equal(again.state()[name], part) for name, part in smoother.state().items())
    smoother.begin(0, 10, 0)  # another run begins
    assert smoother.state() == {}


def test_a_fisher_of_another_model_and_wrong_settings_are_refused():
    for fisher, said in (
        ({"a": torch.ones(5)}, r"'a' has shape \(5,\)"),
        ({"c": torch.ones(5)}, "'a' is missing"),
    ):
        smoother = Refresh()
        smoother.use_fisher(fisher)
        with pytest.raises(UserError, match=said + r", the tensor has shape \(2, 2\)"):
            at_work(smoother)
    for options in ({"J": -1}, {"delta": -1}, {"gamma": -1}, {"noise": -1}, {"damping": 0}, {"cap": 0}):
        with pytest.raises(UserError, match="refresh: "):
            Refresh(**options)


def test_a_second_ascent_of_the_released_form_is_of_the_norm_where_the_first_led():
    smoother = Refresh(J=2, delta=0.5, noise=0, precondition="identity")
    bowl, weights, _ = at_work(smoother, RETAIN)
    w = flat(weights.parameters)
    for _ in range(2):
        slope = bowl.curve["retain"] @ w + bowl.slope["retain"]
        parts = zip(w.split([4, 3]), slope.split([4, 3]), strict=True)
        w = torch.cat([part + 0.5 * part.norm() * g / g.norm() for part, g in parts])
    torch.testing.assert_close(flat(weights.parameters) + flat(smoother.move()), w, atol=1e-12, rtol=1e-12)
