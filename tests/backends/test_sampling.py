"""The drawing loop's hooks: starting part of the way, and another step in the scheduler's place."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import tiny
from oubliette.backends.diffusion import DiffusionBackend
from oubliette.backends.sampling import check_steps, denoise, make_scheduler, start_noise
from oubliette.core.errors import UserError


def _run(model: DiffusionBackend, x: torch.Tensor, **more: Any) -> torch.Tensor:
    scheduler = make_scheduler("ddim", model.scheduler_config)
    guide = model.guide(["a car"] * len(x), guidance=2.0, steps=5)
    return denoise(guide, scheduler, x, steps=5, **more)[0]


@pytest.mark.parametrize("cut", [0, 2, 5])
def test_stopping_and_going_on_is_one_run(tiny_pipeline: Any, cut: int) -> None:
    model = DiffusionBackend.from_pipeline(tiny_pipeline)
    noise = start_noise(model.latent_shape, [1, 2])
    half = _run(model, noise, stop=cut)
    assert torch.equal(_run(model, half, first=cut), _run(model, noise))


def test_first_lies_within_the_steps_that_are_run(tiny_pipeline: Any) -> None:
    model = DiffusionBackend.from_pipeline(tiny_pipeline)
    noise = start_noise(model.latent_shape, [1])
    with pytest.raises(ValueError, match=r"first must lie in 0\.\.2, found 3"):
        _run(model, noise, first=3, stop=2)


def test_a_step_takes_the_schedulers_place_at_every_timestep() -> None:
    model = DiffusionBackend.from_pipeline(tiny.pipeline())
    seen: list[int] = []

    def stay(scheduler: Any, prediction: torch.Tensor, t: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        seen.append(int(t))
        return x

    noise = start_noise(model.latent_shape, [1])
    assert torch.equal(_run(model, noise, first=1, step=stay), noise)
    assert seen == [601, 401, 201, 1]  # 1000 / 5 apart, offset 1, less the first (801)


def test_as_many_steps_as_noise_levels_are_refused_where_they_would_run_over_the_end() -> None:
    config = {"num_train_timesteps": 50, "steps_offset": 1, "timestep_spacing": "leading"}
    check_steps(49, config)
    check_steps(50, config | {"steps_offset": 0})
    for steps in (0, 50):
        with pytest.raises(UserError, match=r"1\.\.49"):
            check_steps(steps, config)
