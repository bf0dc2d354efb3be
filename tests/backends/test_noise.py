"""Noise is mixed in as diffusers' schedulers do, and every prediction type can be turned back."""

from __future__ import annotations

import pytest
import torch

import tiny
from oubliette.backends.diffusion import DiffusionBackend
from oubliette.backends.noise import NoiseSchedule
from oubliette.core.errors import UserError


def test_add_noise_and_velocity_are_those_of_the_scheduler() -> None:
    pipe = tiny.pipeline("v_prediction")
    model = DiffusionBackend.from_pipeline(pipe)
    clean, noise = torch.randn(3, 4, 8, 8), torch.randn(3, 4, 8, 8)
    t = torch.tensor([0, 400, 999])
    torch.testing.assert_close(model.add_noise(clean, noise, t), pipe.scheduler.add_noise(clean, noise, t))
    torch.testing.assert_close(model.target_of(clean, noise, t), pipe.scheduler.get_velocity(clean, noise, t))


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample", "flow"])
def test_a_perfect_prediction_gives_back_noise_and_clean(prediction: str) -> None:
    kept = None if prediction == "flow" else torch.linspace(0.999, 0.01, 1000)
    schedule = NoiseSchedule(prediction, 1000, kept)
    clean, noise = torch.randn(4, 4, 8, 8).double(), torch.randn(4, 4, 8, 8).double()
    t = torch.tensor([1, 300, 600, 990])
    noisy = schedule.add_noise(clean, noise, t)
    target = schedule.target_of(clean, noise, t)
    torch.testing.assert_close(schedule.clean_of(target, noisy, t), clean, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(schedule.noise_of(target, noisy, t), noise, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(
        schedule.clean_of(target[1:2], noisy[1:2], 300), clean[1:2], rtol=1e-5, atol=1e-5
    )
    assert schedule.add_noise(clean.half(), noise.half(), t).dtype == torch.float16


def test_an_unknown_prediction_type_is_refused() -> None:
    from oubliette.backends.noise import schedule_of

    with pytest.raises(UserError, match=r"wavelets.*epsilon"):
        schedule_of({"_class_name": "DDIMScheduler", "prediction_type": "wavelets"}, "here")
