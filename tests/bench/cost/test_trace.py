"""What is recorded of a step are the passes that it makes, and the replay makes the same ones."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import tiny_erasure
from cost.trace import Trace, recorded, replay
from oubliette.erase.diffusion.ablation import Ablation
from oubliette.erase.diffusion.doco import DoCo
from oubliette.erase.diffusion.esd import ESD
from oubliette.train import SMOOTHERS


def step_of(loop: Any) -> Trace:
    with recorded([loop.model.pipe.unet, *getattr(loop.objective, "discriminators", ())]) as trace:
        loop.advance(1)
    trace.settle()
    return trace


def ablation(**more: Any) -> Any:
    return tiny_erasure.loop(Ablation, options={"prior": "retain", "teacher": "original"}, **more)


def test_the_teachers_pass_and_each_roles_are_counted() -> None:
    loop = ablation()
    assert step_of(loop).calls(loop.model.pipe.unet) == (3, 2)


@pytest.mark.parametrize("name", SMOOTHERS.names())
def test_a_smoother_makes_the_extra_passes_that_it_says(name: str) -> None:
    smoother = SMOOTHERS.build(name)
    loop = ablation(smoother=smoother, steps=200)
    extra = smoother.extra_passes
    forwards = extra.forwards + extra.retain_forwards + extra.draws  # a further draw asks the teacher
    assert step_of(loop).calls(loop.model.pipe.unet) == (
        3 + forwards,
        2 + extra.backwards + extra.retain_backwards,
    )


def test_a_trajectorys_passes_and_a_discriminators_are_counted() -> None:
    loop = tiny_erasure.loop(ESD, options={"trajectory_steps": 1})
    assert step_of(loop).calls(loop.model.pipe.unet) == (2, 1)
    loop = tiny_erasure.loop(DoCo, options={"warm_up": 0})
    trace = step_of(loop)
    assert trace.calls(loop.model.pipe.unet) == (3, 2)
    # Forget, and the discriminator's own two sides in one backward.
    assert trace.calls(loop.objective.discriminators[0]) == (3, 2)


@pytest.mark.parametrize("name", ["none", "sam", "gp"])
def test_the_replay_makes_the_same_passes_and_moves_nothing(name: str) -> None:
    loop = ablation(smoother=SMOOTHERS.build(name))
    trace = step_of(loop)
    unet = loop.model.pipe.unet
    before = {key: value.clone() for key, value in unet.state_dict().items()}
    with loop._only_these_require_grad(), recorded([unet]) as again:
        replay(trace)
    again.settle()
    assert again.calls(unet) == trace.calls(unet)
    assert all(torch.equal(value, before[key]) for key, value in unet.state_dict().items())
    assert "forward" not in vars(unet)
