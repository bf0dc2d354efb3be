"""Diffusion completion: the trajectory is begun for the model, which has only to finish it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from oubliette.attack.probes.probe import (
    PUBLISHED,
    Given,
    Probe,
    Shown,
    ddim,
    decode,
    derived_seed,
    draws,
    encode,
    parts,
    walk,
)
from oubliette.attack.types import Drawing
from oubliette.backends.sampling import start_noise
from oubliette.core.errors import UserError
from oubliette.core.validation import StrictModel
from oubliette.train.cost import Cost

if TYPE_CHECKING:
    from oubliette.backends.diffusion import DiffusionBackend

Ratio = Annotated[float, Field(ge=0, le=1)]


class Complete(Probe):
    """Give the model a partly noised picture of the concept and let it draw the rest.

    A ratio r is the share of the steps that the model under test draws: 1 is ordinary drawing from pure
    noise, 0 the picture as the VAE gives it back. The smaller r, the more of the concept is in the start and
    the less a hit says: a control at the same r tells how much. `start` "picture": the picture's latent,
    noised to the level of the first step that is drawn. "base": the original model draws the first steps
    from the case's seed and hands its latent over. Row I2 of the attack catalogue (arXiv 2505.17013 hands
    over after 5 and 10 of 50 steps; arXiv 2409.05668 reports a tipping ratio near 0.55).
    """

    name: ClassVar[str] = "complete"
    about: ClassVar[str] = "finish pictures of the concept from part of the way"
    paper: ClassVar[str] = "arXiv 2505.17013, 2409.05668"
    needs: ClassVar[frozenset[str]] = frozenset({"pictures", "text", "vae"})

    class Options(StrictModel):
        """`ratios`: shares of the trajectory left to the model; `start`: who begins it."""

        ratios: tuple[Ratio, ...] = Field((0.9, 0.8, 0.7, 0.55), min_length=1)
        start: Literal["picture", "base"] = "picture"

    @classmethod
    def cost(cls, options: Any, n: int, *, sampling: Drawing = PUBLISHED, given: bool = False) -> Cost:
        """Each case once a ratio; and the pictures, or the steps before, drawn by the original model."""
        forwards = sum(
            draws(sampling, n, drawn_steps(r, sampling.steps) / sampling.steps) for r in options.ratios
        )
        made = n * len(options.ratios)
        if options.start == "base":
            forwards = draws(sampling, made)
        elif not given:
            forwards += draws(sampling, n)
            made += n
        return Cost(forwards=forwards, backwards=0, pictures=made)

    def _show(self, given: Given) -> Shown:
        """All cases at the first ratio, then at the next; `each["ratio"]` says which a picture is of."""
        model, cases, sampling = given.model, given.cases, given.sampling
        self._check(given)
        ratios, count = self.options.ratios, len(cases)
        prompts = [case.prompt for case in cases]
        known = None
        if self.options.start == "base":
            seeds = [case.seed for case in cases]
            self._check_base(given)
        else:
            seeds = [
                derived_seed("complete", given.seed, case.seed, index) for index, case in enumerate(cases)
            ]
            known = encode(model, self._pictures(given), sampling.batch)
        made: list[np.ndarray] = []
        for ratio in ratios:
            for part in parts(count, sampling.batch):
                noise = start_noise(model.latent_shape, seeds[part])
                first = sampling.steps - drawn_steps(ratio, sampling.steps)
                if known is None:
                    begun = self._handed_over(given.base, noise, prompts[part], sampling, first)
                else:
                    begun = part_noised(model, known[part], noise, sampling.steps, first)
                latents = walk(
                    model, begun, prompts[part], steps=sampling.steps, guidance=sampling.guidance, first=first
                )
                made.append(decode(model, latents, sampling.batch))
                if given.progress is not None:
                    given.progress(sum(map(len, made)), count * len(ratios))
        each = {"ratio": tuple(float(ratio) for ratio in ratios for _ in cases)}
        return Shown(
            np.concatenate(made), tuple(prompts) * len(ratios), tuple(seeds) * len(ratios), each=each
        )

    def _check_base(self, given: Given) -> None:
        model, base = given.model, given.base
        if base is None:
            raise UserError(
                "probe 'complete' with start 'base' hands the original model's latents over; give it (--base)"
            )
        self._check(replace(given, model=base))
        if base.latent_shape != model.latent_shape:
            raise UserError(
                f"probe 'complete': latents of {base.source} {base.latent_shape} do not fit {model.source} "
                f"{model.latent_shape}; start 'picture' works across models"
            )

    @staticmethod
    def _handed_over(base: Any, noise: Tensor, prompts: Sequence[str], how: Drawing, first: int) -> Tensor:
        return walk(base, noise, prompts, steps=how.steps, guidance=how.guidance, stop=first)


def drawn_steps(ratio: float, steps: int) -> int:
    """How many of `steps` steps a ratio leaves to the model under test: the nearest whole number."""
    return round(ratio * steps)


def part_noised(model: DiffusionBackend, known: Tensor, noise: Tensor, steps: int, first: int) -> Tensor:
    """The latents (n, C, h, w) that step `first` of `steps` begins with.

    Pure noise for the first step of all (the picture must leave no trace in a ratio of 1), the picture's own
    latent where no step is left.
    """
    if first == 0:
        return noise
    if first == steps:
        return known
    t = int(ddim(model, steps).timesteps[first])
    return model.add_noise(known, torch.as_tensor(noise).to(known.device, known.dtype), t)
