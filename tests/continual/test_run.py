"""A whole run: every method, its figures, and the same bits however often it was stopped."""

import numpy as np
import pytest
import torch

from oubliette.continual import run as running
from oubliette.continual.figures import accuracies, summary
from oubliette.continual.method import method_names, read_method
from oubliette.continual.run import learn
from oubliette.continual.tasks import Tasks
from oubliette.core.errors import UserError
from oubliette.train.loop import Loop

from .toys import settings, toy


class StoppedError(Exception):
    pass


@pytest.mark.parametrize("method", method_names())
def test_every_method_learns_its_tasks(method, tmp_path):
    found, model = learn(settings(method=method), toy(), tmp_path)
    assert np.shape(found.class_il) == np.shape(found.task_il) == (4, 3)
    assert found.weights == model.fingerprint()
    assert found.steps == 3 * 8
    assert all(np.isfinite(value) for value in found.figures().values())


def test_replay_forgets_less_than_nothing_against_forgetting(tmp_path):
    ends = {
        method: learn(settings(method=method, buffer=24, epochs=8), toy(), tmp_path / method)[0].figures()
        for method in ("sgd", "er")
    }
    assert ends["er"]["class-il accuracy"] > ends["sgd"]["class-il accuracy"]
    assert ends["er"]["class-il forgetting"] < ends["sgd"]["class-il forgetting"]


@pytest.mark.parametrize("refresh", [None, {}, {"form": "paper", "J": 2, "gamma": 1e-3, "noise": 0.1}])
@pytest.mark.parametrize("method", ["der++", "ewc-online", "vcl"])
def test_a_run_that_is_stopped_anywhere_ends_in_the_bits_of_one_that_was_not(
    method, refresh, tmp_path, monkeypatch
):
    wanted = settings(method=method, refresh=refresh)
    whole = learn(wanted, toy(), tmp_path / "whole")[0]
    update, left = Loop._update, [0]

    def watched(self):
        left[0] -= 1
        if left[0] == 0:
            raise StoppedError
        return update(self)

    monkeypatch.setattr(Loop, "_update", watched)
    for left[0] in (3, 6, 11):
        with pytest.raises(StoppedError):
            learn(wanted, toy(), tmp_path / "part")
    left[0] = -1
    again = learn(wanted, toy(), tmp_path / "part")[0]
    assert again.weights == whole.weights
    assert again.figures() == whole.figures()
    assert (again.class_il, again.steps) == (whole.class_il, whole.steps)


def test_refresh_with_no_ascent_is_the_method_bit_for_bit_and_with_one_is_not(tmp_path):
    ends = [
        learn(settings(refresh=refresh), toy(), tmp_path / str(number))[0].weights
        for number, refresh in enumerate((None, {"J": 0}, {"form": "paper", "J": 0}, {"delta": 1e-3}))
    ]
    assert ends[0] == ends[1] == ends[2] != ends[3]


def test_refresh_climbs_the_current_batch_as_released_and_the_whole_loss_as_in_the_paper():
    assert settings(refresh={}).smoother().on == "current"
    assert settings(refresh={"form": "paper"}).smoother().on == "retain"
    assert settings(refresh={"form": "paper", "on": "replay"}).smoother().on == "replay"


def test_refresh_has_no_fisher_in_the_first_task_and_the_last_tasks_after(tmp_path):
    held = []
    wanted = settings(method="sgd", refresh={}, fisher_decay=0.5)
    begin = running._Run._loop
    fishers = []

    def watched(self, task):
        held.append({name: part.clone() for name, part in self.smoother._fisher.items()})
        return begin(self, task)

    taken = running.fisher_diag

    def counted(*given):
        fishers.append(taken(*given))
        return fishers[-1]

    running._Run._loop, running.fisher_diag = watched, counted
    try:
        learn(wanted, toy(), tmp_path)
    finally:
        running._Run._loop, running.fisher_diag = begin, taken
    assert not any(part.any() for part in held[0].values())
    for name, part in held[2].items():
        torch.testing.assert_close(part, 0.5 * fishers[0][name] + fishers[1][name])


def test_each_task_has_draws_of_its_own_and_the_last_gradient_is_before_its_end(tmp_path, monkeypatch):
    told, seeds = [], []
    for name in ("_measure", "_end"):
        own = getattr(running._Run, name)
        monkeypatch.setattr(
            running._Run,
            name,
            lambda self, *given, own=own, name=name: (told.append(name), own(self, *given))[1],
        )
    loop = running._Run._loop

    def watched(self, task):
        made = loop(self, task)
        seeds.append(made.seed)
        return made

    monkeypatch.setattr(running._Run, "_loop", watched)
    learn(settings(method="ewc-online"), toy(), tmp_path)
    assert told == ["_end", "_end", "_measure", "_end"]
    assert len(set(seeds)) == 3


def test_the_summaries_are_the_fields():
    rows = [[0.5, 0.4, 0.3], [0.9, 0.5, 0.2], [0.7, 0.8, 0.6], [0.6, 0.9, 1.0]]
    found = summary(rows)
    assert found["accuracy"] == pytest.approx((0.6 + 0.9 + 1.0) / 3)
    assert found["bwt"] == pytest.approx(((0.6 - 0.9) + (0.9 - 0.8)) / 2)
    assert found["forgetting"] == pytest.approx(((0.9 - 0.6) + (0.9 - 0.9)) / 2)
    assert found["fwt"] == pytest.approx(((0.5 - 0.4) + (0.6 - 0.3)) / 2)
    assert summary([[0.5], [0.9]]) == {"accuracy": 0.9}


def test_accuracy_is_among_all_classes_or_the_tasks_own():
    tasks = Tasks.of(toy(), "3x2")

    class Always3:
        def logits(self, pictures):
            out = torch.zeros(len(pictures), 6)
            out[:, 3] = 2
            out[:, 0] = 1
            return out

    assert accuracies(Always3(), tasks) == ([0, 0.5, 0], [0.5, 0.5, 0.5])


def test_the_measured_gradient_is_that_of_the_whole_loss(tmp_path):
    """Of SGD on all rows of the last task: the mean cross-entropy's gradient, and in (F + damping)^-1."""
    wanted = settings(method="sgd", fisher="empirical")
    found, model = learn(wanted, toy(), tmp_path)
    tasks = Tasks.of(toy(), "3x2")
    last = tasks.only(tasks.train, 2)
    named = list(model.tensors().values())
    rows = [
        torch.autograd.grad(last.log_likelihood(model, i), named, allow_unused=True) for i in range(len(last))
    ]
    flat = torch.stack([torch.cat([part.flatten() for part in row]) for row in rows])
    slope, fisher = -flat.mean(0), flat.square().mean(0)
    assert found.norm == pytest.approx(float(slope.norm()), rel=1e-4)
    assert found.fisher_norm == pytest.approx(
        float((slope.square() / (fisher + 1e-3)).sum().sqrt()), rel=1e-4
    )


def test_bad_inputs_are_refused_with_what_would_be_right(tmp_path):
    for changes, said in (
        ({"tasks": "4x2"}, r"4 tasks of 2 classes are 8, the data has 6 .*possible: 6x1, 3x2, 2x3"),
        ({"tasks": "five"}, "expected TASKSxCLASSES"),
        ({"method": "der", "buffer": 0}, "--buffer 200"),
        ({"method": "derr"}, "der"),
        ({"refresh": {"delt": 1}}, "unknown key 'delt'"),
        ({"refresh": {"J": -1}}, "J must be at least 0"),
    ):
        with pytest.raises(UserError, match=said):
            learn(settings(**changes), toy(), tmp_path)


def test_a_method_of_ones_own_is_a_file(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("output: [{name: replay, alpha: 2.0, generator: negative entropy, target: label}]")
    assert read_method(path).output[0].alpha == 2
    for text, said in (
        ("output: [{name: a, alpha: -1, generator: squared, target: stored}]", "output.0.alpha.*found -1"),
        ("weights: {beta: -0.1}", "weights.beta.*found -0.1"),
        ("wieghts: {beta: 1}", "unknown key 'wieghts'"),
        ("[]", "expected keys with values"),
    ):
        path.write_text(text)
        with pytest.raises(UserError, match=said):
            read_method(path)
    with pytest.raises(UserError, match="cannot be read"):
        read_method(tmp_path / "none.yaml")
