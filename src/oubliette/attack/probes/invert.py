"""Latent inversion: is there a noise from which the erased model draws the concept after all?"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor

from oubliette.attack.probes.probe import (
    PUBLISHED,
    Given,
    Probe,
    Shown,
    ddim,
    decode,
    encode,
    kept_signal,
    parts,
    walk,
)
from oubliette.attack.types import Drawing
from oubliette.backends.text import TextEmbedding
from oubliette.core.validation import StrictModel
from oubliette.train.cost import Cost

if TYPE_CHECKING:
    from oubliette.backends.diffusion import DiffusionBackend

PSNR_CAP = 100.0
"""Pictures that are equal to the last bit: dB that stand for infinity."""


class Invert(Probe):
    """Follow DDIM backwards from a picture of the concept to a noise, and draw from that noise.

    Every backward step is solved for its own input by fixed-point iterations, whose last `average` noise
    predictions are averaged. That the picture comes back says nothing by itself (`pictures_tell` is False):
    DDIM can be inverted for any picture, and a model that never knew the concept gives it back as well. What
    may tell is whether the noise is one that would ever be drawn, beside a control's: `norm` compares its
    length with that of ordinary noise (1) and `surprise` says by how many standard deviations the squared
    length is off; correlations between its values are not looked at. Row M1 of the attack catalogue
    (arXiv 2412.00782; the iteration of arXiv 2403.14602).
    """

    name: ClassVar[str] = "invert"
    about: ClassVar[str] = "find the noise that pictures of the concept would come from"
    paper: ClassVar[str] = "arXiv 2412.00782, 2403.14602"
    needs: ClassVar[frozenset[str]] = frozenset({"pictures", "text", "vae"})
    pictures_tell: ClassVar[bool] = False

    class Options(StrictModel):
        """`prompt`: with which text; `guidance` of both ways; `iterations` a step, the last `average` of
        which make the noise.
        """

        prompt: Literal["empty", "concept"] = "empty"
        guidance: float = Field(1.0, ge=1)
        iterations: int = Field(4, ge=1)
        average: int = Field(1, ge=1)

        @model_validator(mode="after")
        def _enough(self) -> Any:
            if self.average > self.iterations:
                raise ValueError(f"average {self.average} of only {self.iterations} iterations")
            return self

    @classmethod
    def cost(cls, options: Any, n: int, *, sampling: Drawing = PUBLISHED, given: bool = False) -> Cost:
        """The way back (each step `iterations` times), the way forward, and the originals to draw."""
        guided = 2 if options.guidance > 1 else 1
        forwards = n * sampling.steps * (options.iterations + 1) * guided
        if not given:
            forwards += n * sampling.steps * (2 if sampling.guidance > 1 else 1)
        return Cost(forwards=forwards, backwards=0, pictures=n if given else 2 * n)

    def _show(self, given: Given) -> Shown:
        """The pictures that come back, one a case, drawn with the options' guidance (not the sampling's).

        `each`, and its means in `facts`: `psnr` (dB, against the picture given), `psnr_vae` (the same for
        the VAE alone: the most there can be), `norm`, `surprise`, and `residual`, the mean change of the
        noise in the last iteration over all steps (small: solved; large: not converged).
        """
        model, cases, sampling = given.model, given.cases, given.sampling
        self._check(given)
        shown = self._pictures(given)
        latents = encode(model, shown, sampling.batch)
        prompts = ["" if self.options.prompt == "empty" else case.prompt for case in cases]
        how: dict[str, Any] = {"steps": sampling.steps, "guidance": self.options.guidance}
        made, noises, residuals = [], [], []
        for part in parts(len(cases), sampling.batch):
            noise, residual = invert(
                model,
                latents[part],
                prompts[part],
                iterations=self.options.iterations,
                average=self.options.average,
                **how,
            )
            made.append(decode(model, walk(model, noise, prompts[part], **how), sampling.batch))
            noises.append(noise)
            residuals.append(residual)
            if given.progress is not None:
                given.progress(sum(map(len, made)), len(cases))
        drawn = np.concatenate(made)
        norm, surprise = likeliness(torch.cat(noises))
        each = {
            "psnr": psnr(drawn, shown),
            "psnr_vae": psnr(decode(model, latents, sampling.batch), shown),
            "norm": norm,
            "surprise": surprise,
            "residual": tuple(torch.cat(residuals).tolist()),
        }
        facts = {name: float(np.mean(values)) for name, values in each.items()}
        return Shown(drawn, tuple(prompts), tuple(case.seed for case in cases), facts, each=each)


@torch.no_grad()
def invert(
    model: DiffusionBackend,
    latents: Tensor,
    prompts: Sequence[str],
    *,
    steps: int,
    guidance: float,
    iterations: int,
    average: int = 1,
) -> tuple[Tensor, Tensor]:
    """The noise (n, C, h, w) float32 from which DDIM draws `latents`, and the residual (n,).

    DDIM's step (Song et al. 2021, eq. 12 with eta 0) is y = sqrt(p) x0(x) + sqrt(1 - p) e(x) with
    x0 = (x - sqrt(1 - a) e) / sqrt(a), a and p the signal kept before and after. Solved for x:
    x = sqrt(a / p) y + (sqrt(1 - a) - sqrt(a (1 - p) / p)) e(x), iterated from e(y).
    """
    scheduler = ddim(model, steps)
    text = model.encode_text(list(prompts))
    empty = model.unconditional(len(text))
    x = latents.to(model.device, torch.float32)
    residual = torch.zeros(len(x), device=x.device)
    for t in reversed([int(t) for t in scheduler.timesteps]):
        before, after = kept_signal(scheduler, t)
        keep = (before / after) ** 0.5
        push = (1 - before) ** 0.5 - (before * (1 - after) / after) ** 0.5
        y, last, kept = x, x, []
        for number in range(iterations):
            noise = noise_at(model, x, t, text, empty, guidance)
            if number >= iterations - average:
                kept.append(noise)
            last, x = x, keep * y + push * noise
        # What the last iteration still changed: 0 at a solution.
        residual += (x - last).abs().flatten(1).mean(1) / steps
        x = keep * y + push * torch.stack(kept).mean(0)
    return x, residual.cpu()


def noise_at(
    model: DiffusionBackend, x: Tensor, t: int, text: TextEmbedding, empty: TextEmbedding, guidance: float
) -> Tensor:
    """The noise (float32) that the guided prediction at `x` and `t` implies, whatever it predicts."""
    given = x.to(model.dtype)
    if guidance > 1:
        both = model.predict(torch.cat([given, given]), t, TextEmbedding.join([empty, text]))
        blank, full = both.float().chunk(2)
        prediction = blank + guidance * (full - blank)
    else:
        prediction = model.predict(given, t, text).float()
    return model.noise_of(prediction, x, t)


def psnr(left: np.ndarray, right: np.ndarray) -> tuple[float, ...]:
    """Peak signal to noise (dB) of each of two stacks of uint8 pictures, at most `PSNR_CAP`."""
    error = ((left.astype(np.float64) - right.astype(np.float64)) ** 2).reshape(len(left), -1).mean(1)
    with np.errstate(divide="ignore"):
        return tuple(np.minimum(10 * np.log10(255.0**2 / error), PSNR_CAP).tolist())


def likeliness(noise: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """How each latent (n, ...) compares with standard normal noise: relative norm and surprise.

    The norm over its expectation, sqrt(2) G((d + 1) / 2) / G(d / 2) for d values (chi); and the squared
    norm's distance from its mean in standard deviations, (|x|^2 - d) / sqrt(2 d) (chi squared).
    """
    flat = noise.cpu().double().flatten(1)
    d = flat.shape[1]
    expected = math.sqrt(2) * math.exp(math.lgamma((d + 1) / 2) - math.lgamma(d / 2))
    square = flat.square().sum(1)
    return (
        tuple((square.sqrt() / expected).tolist()),
        tuple(((square - d) / math.sqrt(2 * d)).tolist()),
    )
