"""UnlearnDiffAtk: tokens before the prompt that make the erased model denoise the original's picture well."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor

from oubliette.attack.prompts.attack import Job
from oubliette.attack.prompts.prefix import Noised, PrefixOptions, PrefixSearch

__all__ = ["UnlearnDiffAtk"]


class UnlearnDiffAtk(PrefixSearch):
    """UnlearnDiffAtk: prefix tokens that minimise ||n - eps_theta(x_t, prefix + prompt)||^2.

    x_0 is the picture that the original model draws of the same prompt, n fresh noise: the erased model is
    its own classifier of the concept. The paper takes 3 tokens for styles and objects, 5 for nudity; Adam
    with learning rate 0.01 and weight decay 0.1, 40 updates at each of 50 timesteps. The authors' program
    draws the token of the forward pass by its weight (`choice: sampled`).
    """

    name: ClassVar[str] = "unlearndiffatk"
    about: ClassVar[str] = (
        "white-box prefix tokens under which the erased model denoises the original's picture"
    )
    paper: ClassVar[str] = "Zhang et al., To Generate or Not, UnlearnDiffAtk, ECCV 2024 (2310.11868)"
    presets: ClassVar[dict[str, dict[str, Any]]] = {
        "published": {},
        "nano": {
            "timesteps": 6,
            "iterations": 20,
            "learning_rate": 0.05,
            # At losses this small the published decay outweighs the gradient, and the search ends above where
            # it began; without it, below the best of as many random prefixes (tried on the concept "fish").
            "weight_decay": 0.0,
            "together": 16,
        },
    }

    class Options(PrefixOptions):
        """UnlearnDiffAtk's options; the defaults are the paper's."""

    options: Options

    def goal(self, job: Job, batch: Noised) -> Tensor:
        """The noise that was put in."""
        return batch.noise
