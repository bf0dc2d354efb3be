"""The loss of a step, its roles, and what the buffer is given when."""

import pytest
import torch
from torch.nn import functional as F

from oubliette.backends.classifier import ClassifierBackend
from oubliette.continual.buffer import Reservoir
from oubliette.continual.method import Method, read_method
from oubliette.continual.objective import ContinualObjective
from oubliette.continual.tasks import Tasks
from oubliette.core.errors import UserError

from .toys import toy


def made(method, buffer=6, task=0, **more):
    tasks = Tasks.of(toy(), "3x2")
    spec = read_method(method) if isinstance(method, str) else method
    objective = ContinualObjective(spec, tasks, Reservoir(buffer) if buffer else None, replay=4)
    model = ClassifierBackend(tasks.classes, 8, widths=(8, 8), gaussian=spec.is_bayesian, device="cpu")
    objective.setup(model, task, None, 0)
    return objective, model, tasks


def step(objective, number, batch=4):
    roles = objective.roles(number)
    draw = objective.draw(number, torch.Generator().manual_seed(number), batch)
    return roles, draw, {name: objective.loss(name, draw) for name in roles}


def test_der_plus_plus_is_cross_entropy_and_two_draws_of_the_buffer():
    objective, model, tasks = made("der++")
    roles, _, _ = step(objective, 0)
    assert list(roles) == ["current"]  # there is nothing to replay yet
    roles, draw, losses = step(objective, 1)
    assert {name: role.weight for name, role in roles.items()} == {"current": 1, "logits": 0.1, "replay": 0.5}
    assert not torch.equal(draw["logits"], draw["replay"])
    rows = tasks.rows(tasks.train, 0)[draw["places"]]
    said = model.logits(tasks.train.pictures[rows])
    torch.testing.assert_close(losses["current"], F.cross_entropy(said, tasks.train.labels[rows]))
    kept = objective.buffer.rows[draw["logits"]]
    said = model.logits(tasks.train.pictures[kept])
    torch.testing.assert_close(losses["logits"], F.mse_loss(said, objective.buffer.logits[draw["logits"]]))
    kept = objective.buffer.rows[draw["replay"]]
    said = model.logits(tasks.train.pictures[kept])
    torch.testing.assert_close(losses["replay"], F.cross_entropy(said, tasks.train.labels[kept]))


def test_a_steps_rows_enter_after_it_once_with_the_logits_of_their_first_evaluation():
    objective, model, tasks = made("der", buffer=100)
    _, draw, _ = step(objective, 0)
    before = model.logits(tasks.train.pictures[tasks.rows(tasks.train, 0)[draw["places"]]]).detach()
    with torch.no_grad():
        for tensor in model.tensors().values():
            tensor.add_(0.1)
    objective.loss("current", draw)  # a smoother's evaluation elsewhere
    assert objective.buffer.seen == 0
    objective.roles(1)
    objective.roles(1)
    assert objective.buffer.seen == 4
    assert torch.equal(objective.buffer.rows, tasks.rows(tasks.train, 0)[draw["places"]])
    torch.testing.assert_close(objective.buffer.logits, before)
    step(objective, 1)
    objective.settle()
    objective.settle()
    assert objective.buffer.seen == 8


def test_every_micro_batch_of_a_step_enters_the_buffer():
    objective, _, _ = made("der", buffer=100)
    objective.roles(0)
    draws = [objective.draw(0, torch.Generator().manual_seed(micro), 4) for micro in range(2)]
    for draw in draws:
        objective.loss("current", draw)
    objective.roles(1)
    assert objective.buffer.seen == 8


def test_a_draw_is_of_the_task_alone_with_no_row_twice():
    objective, _, tasks = made("sgd", task=1)
    _, draw, _ = step(objective, 0, batch=16)
    rows = tasks.rows(tasks.train, 1)[draw["places"]]
    assert len(set(rows.tolist())) == 16
    assert set(tasks.train.labels[rows].tolist()) == {2, 3}


def test_old_outputs_are_of_the_model_before_the_task_and_of_earlier_classes():
    objective, model, tasks = made("lwf")
    assert list(objective.roles(0)) == ["current"]
    objective.setup(model, 2, None, 0)
    assert list(objective.roles(0)) == ["current", "distilled"]
    _, draw, losses = step(objective, 0)
    assert float(losses["distilled"]) == pytest.approx(0, abs=1e-6)  # it has not moved
    pictures = tasks.train.pictures[tasks.rows(tasks.train, 2)[draw["places"]]]
    old = model.logits(pictures).detach()[:, :4]
    with torch.no_grad():
        for tensor in model.tensors().values():
            tensor.mul_(1.5)
    now = model.logits(pictures)[:, :4]
    expected = F.kl_div((now / 2).log_softmax(-1), (old / 2).softmax(-1), reduction="batchmean")
    torch.testing.assert_close(objective.loss("distilled", draw), expected)


def test_the_weight_term_takes_part_after_the_first_task():
    objective, model, _ = made("ewc")
    assert list(objective.roles(0)) == ["current"]
    weights = {name: tensor.detach() for name, tensor in model.tensors().items()}
    objective.memory.take(weights, {name: torch.ones_like(tensor) for name, tensor in weights.items()})
    roles, draw, _ = step(objective, 1)
    assert roles["weights"].weight == 20
    with torch.no_grad():
        for tensor in model.tensors().values():
            tensor.add_(0.1)
    size = sum(tensor.numel() for tensor in weights.values())
    torch.testing.assert_close(
        objective.loss("weights", draw), torch.tensor(0.5 * 0.01 * size), rtol=1e-4, atol=0
    )


def test_gaussian_weights_are_drawn_once_a_step_and_their_spread_is_trained():
    objective, model, _ = made("vcl", buffer=0)
    _, draw, losses = step(objective, 0)
    assert torch.equal(objective.loss("current", draw), losses["current"])
    _, other, _ = step(objective, 1)
    assert draw["noise"] != other["noise"]
    (slope,) = torch.autograd.grad(losses["current"], [model.tensors()["net.log_std.body/trunk/weight"]])
    assert bool(slope.any())


def test_replay_without_a_buffer_and_wrong_terms_are_refused():
    with pytest.raises(UserError, match=r"its size is 0; --buffer 200"):
        made("er", buffer=0)
    for wrong, said in (
        ({"alpha": -1, "generator": "squared", "target": "stored"}, "greater than or equal to 0"),
        (
            {"alpha": 1, "generator": "negative entropy", "target": "stored", "space": "logits"},
            "squared generator",
        ),
        ({"alpha": 1, "generator": "squared", "target": "stored", "rows": "current"}, "must be 'buffer'"),
        ({"alpha": 1, "generator": "squared", "target": "old"}, "must be 'current'"),
        (
            {"alpha": 1, "generator": "negative entropy", "target": "label", "order": "output first"},
            "is infinite for a label",
        ),
    ):
        with pytest.raises(ValueError, match=said):
            Method(output=[{"name": "term", **wrong}])
    with pytest.raises(ValueError, match="greater than or equal to 0"):
        Method(weights={"beta": -1})
    term = {"name": "current", "alpha": 1, "generator": "squared", "target": "stored"}
    with pytest.raises(ValueError, match="a name of its own"):
        Method(output=[term])
