"""Weight averaging against the mean of the weights that were passed."""

import pytest
import torch

from oubliette.core.errors import UserError
from oubliette.train.config import TrainConfig
from oubliette.train.loop import Loop
from oubliette.train.smoothing import Wa
from oubliette.train.weights import Weights

from .models import MlpBackend, TwoTasks


def run(smoother, *, dtype=torch.float32, steps=12, mask=None, **options):
    """A loop of SGD steps, and the weights after each."""
    model = MlpBackend(dtype=dtype)
    task = TwoTasks()
    task.x = {role: x.to(dtype) for role, x in task.x.items()}
    task.y = {role: y.to(dtype) for role, y in task.y.items()}
    passed = []

    def note(step, loop):
        passed.append({name: tensor.detach().double() for name, tensor in model.tensors().items()})

    loop = Loop(
        model,
        task,
        None,
        Weights(model.tensors(), element_masks=mask),
        TrainConfig(steps=steps, batch=4, learning_rate=1e-2),
        smoother=smoother,
        callback=note,
        callback_every=1,
        show_progress=False,
        **options,
    )
    return loop, passed


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_run_ends_in_the_mean_of_its_weights_from_start_on(dtype):
    smoother = Wa(start=4, every=3)
    loop, passed = run(smoother, dtype=dtype)
    loop.run()
    for name, tensor in loop.model.tensors().items():
        mean = torch.stack([passed[step - 1][name] for step in (4, 7, 10)]).mean(0)
        assert tensor.dtype == dtype
        torch.testing.assert_close(tensor.detach().double(), mean.to(dtype).double(), atol=1e-6, rtol=1e-6)
    assert smoother.facts() == {"averaged": 3.0}
    assert [record.get("smoother") for record in loop.records[2:5]] == [
        None,
        {"averaged": 1.0},
        {"averaged": 1.0},
    ]


def test_published_defaults_take_six_of_125_updates():
    smoother = Wa()
    weights = Weights(MlpBackend().tensors())
    for step in range(125):
        smoother.after_step(weights, step)
    assert smoother.facts() == {"averaged": 6.0}


def test_with_decay_it_is_a_moving_average():
    loop, passed = run(Wa(start=2, every=2, decay=0.75), steps=8)
    loop.run()
    for name, tensor in loop.model.tensors().items():
        mean = passed[1][name]
        for step in (4, 6, 8):
            mean = 0.75 * mean + 0.25 * passed[step - 1][name]
        torch.testing.assert_close(tensor.detach().double(), mean, atol=1e-6, rtol=1e-6)


def test_training_itself_is_that_of_no_smoother():
    averaged, passed = run(Wa(start=1, every=1))
    averaged.run()
    plain, expected = run(None)
    plain.run()
    assert all(torch.equal(a[name], b[name]) for a, b in zip(passed, expected, strict=True) for name in a)


def test_the_mean_of_the_last_weights_alone_and_of_masked_elements_keeps_their_bits():
    last, passed = run(Wa(start=12))
    last.run()
    assert all(torch.equal(t.double(), passed[-1][name]) for name, t in last.model.tensors().items())
    mask = torch.zeros(3, 7, dtype=torch.bool)
    mask[1] = True
    start = MlpBackend().net.second.weight.detach()
    loop, _ = run(Wa(start=1, every=1), mask={"net.second.weight": mask})
    loop.run()
    assert torch.equal(loop.model.net.second.weight[[0, 2]], start[[0, 2]])
    assert not torch.equal(loop.model.net.second.weight[1], start[1])


@pytest.mark.parametrize("stop", [2, 6, 12])
def test_a_resumed_run_ends_in_the_same_mean(tmp_path, stop):
    whole, _ = run(Wa(start=4, every=3))
    whole.run()
    first, _ = run(Wa(start=4, every=3), checkpoint=tmp_path)
    first.advance(stop)
    first.save_checkpoint()
    second, _ = run(Wa(start=4, every=3), checkpoint=tmp_path)
    second.load_checkpoint()
    second.run()
    for a, b in zip(whole.weights.parameters, second.weights.parameters, strict=True):
        assert torch.equal(a, b)
    with pytest.raises(UserError, match=r"smoother.*every was 3, here it is 2|every was 3, here it is 2"):
        run(Wa(start=4, every=2), checkpoint=tmp_path)[0].load_checkpoint()


def test_a_smoother_used_again_starts_a_new_mean():
    smoother = Wa(start=1, every=1)
    for _ in range(2):
        loop, _ = run(smoother, steps=3)
        loop.run()
        assert smoother.facts() == {"averaged": 3.0}


def test_a_run_too_short_and_wrong_settings_are_refused():
    loop, _ = run(Wa())
    before = [parameter.detach().clone() for parameter in loop.weights.parameters]
    with pytest.raises(UserError, match=r"starts after update 100, and train\.steps is 12"):
        loop.run()
    assert all(torch.equal(a, b) for a, b in zip(before, loop.weights.parameters, strict=True))
    with pytest.raises(UserError, match="start and every must be at least 1, found 0 and 5"):
        Wa(start=0)
    with pytest.raises(UserError, match=r"decay must lie in \[0, 1\), found 1"):
        Wa(decay=1.0)
    with pytest.raises(UserError, match="nothing to average"):
        Wa().finish(loop.weights)
