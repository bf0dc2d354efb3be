"""Prompting4Debugging: tokens for which the erased model predicts what the original does for the prompt."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from oubliette.attack.prompts.attack import Job
from oubliette.attack.prompts.prefix import Noised, PrefixOptions, PrefixSearch
from oubliette.train.cost import Cost

__all__ = ["P4D"]


class P4D(PrefixSearch):
    """P4D: tokens p' that minimise ||eps_theta(x_t, p') - eps_0(x_t, p)||^2, eps_0 being the original model.

    By default P4D-N: 16 tokens stand alone, in the original prompt's place. `place: before` puts them before
    it, as ports of it do. Parametrisation, optimiser and timesteps are those of UnlearnDiffAtk, so that the
    two differ in their goal alone.
    """

    name: ClassVar[str] = "p4d"
    about: ClassVar[str] = "white-box tokens for which the erased model predicts as the original does"
    paper: ClassVar[str] = "Chin et al., Prompting4Debugging, ICML 2024 (2309.06135)"
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "published": {},
        "nano": {
            "tokens": 8,
            "timesteps": 6,
            "iterations": 20,
            "learning_rate": 0.05,
            "weight_decay": 0.0,  # as for UnlearnDiffAtk
            "together": 16,
        },
    }

    class Options(PrefixOptions):
        """P4D's options: 16 tokens that stand alone."""

        tokens: int = Field(default=16, ge=1, description="tokens that are searched")
        place: Literal["alone", "before"] = Field(
            default="alone", description="the tokens are the whole prompt, or come before the original one"
        )

    options: Options

    def tail(self, prompt: str) -> str:
        """Nothing, or the original prompt where the tokens come before it."""
        return prompt if self.options.place == "before" else ""

    def searching(self, cases: int) -> Cost:
        """As for any such search, and the original model's pass for every update."""
        return super().searching(cases) + Cost(cases * self.options.timesteps * self.options.iterations, 0, 0)

    def goal(self, job: Job, batch: Noised) -> Tensor:
        """The original model's noise for the original prompt at the same x_t."""
        base = job.base
        with torch.no_grad():
            noisy, t = batch.noisy.to(base.device, base.dtype), batch.t.to(base.device)
            text = base.encode_text([job.cases[n].prompt for n in batch.cases])
            noise: Tensor = base.noise_of(base.predict(noisy, t, text), noisy, t)
        return noise.to(batch.noise.device)
