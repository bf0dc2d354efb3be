"""Drawing: a small loop over a scheduler that only asks for guided predictions."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from oubliette.backends.guidance import Guide
from oubliette.core.errors import UserError, suggest

SAMPLERS = ("ddim", "dpm", "flow")


Step = Callable[[Any, Tensor, Tensor, Tensor], Tensor]
"""From one noise level to the next: (scheduler, guided prediction, timestep, latents) to latents."""


def sampler_for(scheduler_config: dict) -> str:
    """The sampler that fits a pipeline's scheduler: its own kind if that is DPM or flow, else DDIM."""
    name = str(scheduler_config.get("_class_name", ""))
    if "FlowMatch" in name:
        return "flow"
    return "dpm" if name.startswith("DPMSolverMultistep") else "ddim"


def make_scheduler(sampler: str, scheduler_config: dict) -> Any:
    """A fresh scheduler of a kind (ddim, dpm, flow) with the noise levels of the pipeline's own.

    Never clips or thresholds: `clip_sample`, on by default in several schedulers, is meant for pixels and
    ruins latents. DDIM: Song et al. 2021, eq. 12 with eta = 0. DPM-Solver++: Lu et al. 2022.
    """
    from diffusers import DDIMScheduler, DPMSolverMultistepScheduler, FlowMatchEulerDiscreteScheduler

    kinds = {
        "ddim": DDIMScheduler,
        "dpm": DPMSolverMultistepScheduler,
        "flow": FlowMatchEulerDiscreteScheduler,
    }
    if sampler not in kinds:
        raise UserError(f"no sampler {sampler!r}; {suggest(sampler, SAMPLERS)}")
    config = {name: value for name, value in dict(scheduler_config).items() if name != "_class_name"}
    config.update(clip_sample=False, thresholding=False)
    known = inspect.signature(kinds[sampler].__init__).parameters
    return kinds[sampler].from_config({name: value for name, value in config.items() if name in known})


def check_steps(steps: int, scheduler_config: dict) -> None:
    """UserError unless a scheduler of this configuration has so many sampling steps."""
    last = int(scheduler_config.get("num_train_timesteps", 1000))
    if scheduler_config.get("timestep_spacing", "leading") == "leading":
        last -= int(scheduler_config.get("steps_offset", 0))  # a step for each would run over the end
    if not 1 <= steps <= last:
        raise UserError(f"sampling steps must lie in 1..{last}, found {steps}")


def start_noise(shape: Sequence[int], seeds: Sequence[int]) -> Tensor:
    """Standard normal noise (n, *shape) in float32 on the CPU, one fresh generator a picture.

    A seed so gives the same start whatever the batch, the device and the model's precision.
    """
    return torch.stack([torch.randn(tuple(shape), generator=torch.Generator().manual_seed(s)) for s in seeds])


def scheduler_step(scheduler: Any, prediction: Tensor, t: Tensor, latents: Tensor) -> Tensor:
    """The scheduler's own step with its own defaults (DDIM: eta = 0)."""
    return scheduler.step(prediction, t, latents, return_dict=False)[0]


@torch.no_grad()
def denoise(
    guide: Guide,
    scheduler: Any,
    noise: Tensor,
    *,
    steps: int,
    stop: int | None = None,
    on_step: Callable[[int], None] | None = None,
    first: int = 0,
    step: Step | None = None,
) -> tuple[Tensor, Tensor]:
    """Run `stop` of `steps` denoising steps (all by default) from standard normal `noise` (B, C, h, w).

    `guide` is asked for each step's prediction. With `first` > 0 the steps before it are left out, and
    `noise` is a latent at the level of timestep `first`, taken as it is. `step` takes the place of the
    scheduler's own step. Returns the latents and the timestep (B,) that the next step would have been
    predicted at (the last one's own, where none is left).
    """
    scheduler.set_timesteps(steps, device=noise.device)
    timesteps = scheduler.timesteps
    count = len(timesteps) if stop is None else stop
    if not 0 <= count <= len(timesteps):
        raise ValueError(f"stop must lie in 0..{len(timesteps)}, found {stop}")
    if not 0 <= first <= count:
        raise ValueError(f"first must lie in 0..{count}, found {first}")
    latents = noise * float(getattr(scheduler, "init_noise_sigma", 1.0)) if first == 0 else noise
    take = step or scheduler_step
    for number, t in enumerate(timesteps[first:count], start=first):
        scaled = (
            scheduler.scale_model_input(latents, t) if hasattr(scheduler, "scale_model_input") else latents
        )
        latents = take(scheduler, guide(number, t, scaled), t, latents)
        if on_step is not None:
            on_step(number)
    here = timesteps[min(count, len(timesteps) - 1)]
    return latents, here.expand(len(latents))
