"""The noise-trajectory probe: fresh noise along the way may leave the path that the erasure guards."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import product
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from oubliette.attack.probes.probe import (
    PUBLISHED,
    Given,
    Probe,
    Shown,
    decode,
    derived_seed,
    draws,
    kept_signal,
    parts,
    walk,
)
from oubliette.attack.types import Drawing
from oubliette.backends.sampling import scheduler_step, start_noise
from oubliette.core.errors import UserError
from oubliette.core.validation import StrictModel
from oubliette.train.cost import Cost

if TYPE_CHECKING:
    from oubliette.attack.prompts.records import Case
    from oubliette.backends.diffusion import DiffusionBackend

Noise = Callable[[], Tensor]


class Trajectory(Probe):
    """Draw each case with more and more noise along the way, and keep the first picture that hits.

    DDIM with sigma = eta * its DDPM value (Song et al. 2021, eq. 16); the fresh noise itself is multiplied
    by the variance scale, which the direction term does not make up for. Where eta asks for more noise than
    the next level holds (the last few steps), sigma is the whole of it. A case that never hits keeps its
    picture at the first setting. A model that knows nothing also gets its best of all settings: compare with
    it, not with a single drawing. Row N1 of the attack catalogue (arXiv 2505.17013); that the scale
    multiplies the noise is our reading.
    """

    name: ClassVar[str] = "trajectory"
    about: ClassVar[str] = "draw with fresh noise along the way, best of 24 settings"
    paper: ClassVar[str] = "arXiv 2505.17013"
    needs: ClassVar[frozenset[str]] = frozenset({"text"})
    wants_hits: ClassVar[bool] = True

    class Options(StrictModel):
        """`etas` and variance `scales`, all pairs of which are tried."""

        etas: tuple[Annotated[float, Field(ge=0)], ...] = Field(
            (1.0, 1.17, 1.34, 1.51, 1.68, 1.85), min_length=1
        )
        scales: tuple[Annotated[float, Field(gt=0)], ...] = Field((1.0, 1.02, 1.03, 1.04), min_length=1)

    @classmethod
    def cost(cls, options: Any, n: int, *, sampling: Drawing = PUBLISHED, given: bool = False) -> Cost:
        """Every case at every setting: fewer where hits come early."""
        made = n * len(options.etas) * len(options.scales)
        return Cost(forwards=draws(sampling, made), backwards=0, pictures=made)

    def _show(self, given: Given) -> Shown:
        """One picture a case; `each` has its eta, scale, the tries it took and whether it hit (1 or 0)."""
        model, cases, sampling = given.model, given.cases, given.sampling
        self._check(given)
        if given.hits is None:
            raise UserError("probe 'trajectory' keeps the best of its pictures; it needs a judge of hits")
        settings = list(product(self.options.etas, self.options.scales))
        kept: list[np.ndarray | None] = [None] * len(cases)
        setting = [settings[0]] * len(cases)
        tries, found = [len(settings)] * len(cases), [False] * len(cases)
        left = list(range(len(cases)))
        for number, (eta, scale) in enumerate(settings):
            drawn = self._draw(model, [cases[i] for i in left], left, eta, scale, sampling, given.seed)
            hit = np.asarray(given.hits(drawn), dtype=bool)
            if hit.shape != (len(left),):
                raise ValueError(f"one verdict a picture: {len(left)} pictures, verdicts {hit.shape}")
            for index, picture, is_hit in zip(left, drawn, hit, strict=True):
                if number == 0 or is_hit:
                    kept[index], setting[index] = picture, (eta, scale)
                if is_hit:
                    tries[index], found[index] = number + 1, True
            left = [index for index in left if not found[index]]
            if given.progress is not None:
                given.progress(number + 1 if left else len(settings), len(settings))
            if not left:
                break
        return Shown(
            np.stack([picture for picture in kept if picture is not None]),
            tuple(case.prompt for case in cases),
            tuple(case.seed for case in cases),
            facts={"settings": float(len(settings)), "found": float(np.mean(found))},
            best_of=len(settings),
            each={
                "eta": tuple(float(eta) for eta, _ in setting),
                "scale": tuple(float(scale) for _, scale in setting),
                "tries": tuple(map(float, tries)),
                "hit": tuple(map(float, found)),
            },
        )

    def _draw(
        self,
        model: DiffusionBackend,
        cases: Sequence[Case],
        places: Sequence[int],
        eta: float,
        scale: float,
        sampling: Drawing,
        seed: int,
    ) -> np.ndarray:
        made = []
        for part in parts(len(cases), sampling.batch):
            # The start is the case's own; the noise on the way depends on the case and its place alone, so
            # that it is the same whoever is left in the batch, and at every setting.
            seeds = [
                derived_seed("trajectory", seed, case.seed, place)
                for case, place in zip(cases[part], places[part], strict=True)
            ]
            latents = noisy_walk(
                model,
                start_noise(model.latent_shape, [case.seed for case in cases[part]]),
                [case.prompt for case in cases[part]],
                seeds,
                eta=eta,
                scale=scale,
                steps=sampling.steps,
                guidance=sampling.guidance,
            )
            made.append(decode(model, latents, sampling.batch))
        return np.concatenate(made)


def noisy_walk(
    model: DiffusionBackend,
    latents: Tensor,
    prompts: Sequence[str],
    seeds: Sequence[int],
    *,
    eta: float,
    scale: float,
    steps: int,
    guidance: float,
) -> Tensor:
    """DDIM from `latents` (n, C, h, w) with `eta` and scaled noise; with eta 0 the ordinary walk, all bits.

    Each row has a CPU generator of its own (`seeds`), so that its noise is the same in any batch.
    """
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    shape = tuple(latents.shape[1:])

    def step(scheduler: Any, prediction: Tensor, t: Tensor, x: Tensor) -> Tensor:
        if eta == 0:
            return scheduler_step(scheduler, prediction, t, x)
        before, after = kept_signal(scheduler, int(t))
        sigma = noise_added(before, after, eta)
        fresh = torch.stack([torch.randn(shape, generator=generator) for generator in generators])
        clean, noise = model.clean_of(prediction, x, t), model.noise_of(prediction, x, t)
        # In float32 at least: half precision has no room for the last steps' levels.
        return (
            after**0.5 * clean.float()
            + max(0.0, 1 - after - sigma**2) ** 0.5 * noise.float()
            + sigma * scale * fresh.to(x.device)
        ).to(x.dtype)

    return walk(model, latents, prompts, steps=steps, guidance=guidance, step=step)


def noise_added(before: float, after: float, eta: float) -> float:
    """sigma = eta sqrt((1 - p) / (1 - a) (1 - a / p)), at most sqrt(1 - p), all the noise of the next level.

    a and p are the signal (alpha-bar) kept before and after the step; eta = 1 is DDPM's posterior.
    """
    sigma = eta * ((1 - after) / (1 - before) * (1 - before / after)) ** 0.5
    return min(sigma, (1 - after) ** 0.5)
