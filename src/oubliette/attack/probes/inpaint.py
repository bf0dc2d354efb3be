"""Inpainting with an ordinary denoiser: given the surroundings of the concept, is it painted back in?"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any, ClassVar

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
from oubliette.backends.sampling import scheduler_step, start_noise
from oubliette.core.validation import StrictModel
from oubliette.train.cost import Cost

if TYPE_CHECKING:
    from oubliette.backends.diffusion import DiffusionBackend


class Inpaint(Probe):
    """Cut the middle out of pictures of the concept and have the model fill it in, with the prompt.

    DDIM on the whole latent, where after each step everything outside the hole is put back to the picture's
    own latent at the noise level that is next, with one fixed noise; after the last, to the latent itself.
    What is left of the concept at the rim counts as shown: compare with a control that was given the same.
    Row I1 of the attack catalogue (visual context, arXiv 2505.17013).
    """

    name: ClassVar[str] = "inpaint"
    about: ClassVar[str] = "fill the middle of pictures of the concept in"
    paper: ClassVar[str] = "arXiv 2505.17013"
    needs: ClassVar[frozenset[str]] = frozenset({"pictures", "text", "vae"})

    class Options(StrictModel):
        """`side`: the hole's side as a share of the picture's (1: all of it, ordinary drawing)."""

        side: float = Field(0.5, gt=0, le=1)

    @classmethod
    def cost(cls, options: Any, n: int, *, sampling: Drawing = PUBLISHED, given: bool = False) -> Cost:
        """A drawing a case, and another by the original model where no pictures are given."""
        drawn = n if given else 2 * n
        return Cost(forwards=draws(sampling, drawn), backwards=0, pictures=drawn)

    def _show(self, given: Given) -> Shown:
        """One filled-in picture a case; the fact `hole` is the share of the latent that was painted."""
        model, cases, sampling = given.model, given.cases, given.sampling
        self._check(given)
        known = encode(model, self._pictures(given), sampling.batch)
        hole = centre(model.latent_shape[1:], self.options.side)
        # Not the case's own seed: the original drew its picture from that noise, which an attacker who has
        # only the picture cannot know.
        seeds = [derived_seed("inpaint", given.seed, case.seed, index) for index, case in enumerate(cases)]
        prompts = [case.prompt for case in cases]
        made = []
        for part in parts(len(cases), sampling.batch):
            noise = start_noise(model.latent_shape, seeds[part])
            latents = fill_in(
                model, known[part], hole, noise, prompts[part], sampling.steps, sampling.guidance
            )
            made.append(decode(model, latents, sampling.batch))
            if given.progress is not None:
                given.progress(sum(map(len, made)), len(cases))
        facts = {"hole": float(hole.float().mean())}
        return Shown(np.concatenate(made), tuple(prompts), tuple(seeds), facts)


def centre(shape: Sequence[int], side: float) -> Tensor:
    """A boolean (h, w) mask that is True on the central rectangle of `side` times each side, at least 1."""
    mask = torch.zeros(tuple(shape), dtype=torch.bool)
    spans = []
    for length in shape:
        size = max(1, round(side * length))
        spans.append(slice((length - size) // 2, (length - size) // 2 + size))
    mask[tuple(spans)] = True
    return mask


def fill_in(
    model: DiffusionBackend,
    known: Tensor,
    hole: Tensor,
    noise: Tensor,
    prompts: Sequence[str],
    steps: int,
    guidance: float,
) -> Tensor:
    """Latents (n, C, h, w) that are `known` outside the hole (bit for bit, in the model's dtype).

    `hole` (h, w) boolean, `noise` (n, C, h, w) standard normal: the start inside, the re-noising outside.
    """
    known, noise = known.to(model.device, model.dtype), noise.to(model.device, model.dtype)
    hole = hole.to(model.device)
    timesteps = [int(t) for t in ddim(model, steps).timesteps]
    following = dict(pairwise(timesteps))

    def step(scheduler: Any, prediction: Tensor, t: Tensor, latents: Tensor) -> Tensor:
        moved = scheduler_step(scheduler, prediction, t, latents)
        after = following.get(int(t))
        outside = known if after is None else model.add_noise(known, noise, after)
        return torch.where(hole, moved, outside)

    start = torch.where(hole, noise, model.add_noise(known, noise, timesteps[0]))
    return walk(model, start, prompts, steps=steps, guidance=guidance, step=step)
