"""Pictures with captions as a denoising task: what a diffusion model is fine-tuned on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from oubliette.core.errors import UserError

if TYPE_CHECKING:
    from oubliette.backends.diffusion import DiffusionBackend

__all__ = ["Denoising", "Noised"]

_ENCODED_AT_ONCE = 16


@dataclass(frozen=True)
class Noised:
    """A batch with all its randomness: clean latents and noise (B, C, h, w), timesteps (B,), captions (B).

    The last `prior` rows are of the prior set.
    """

    clean: Tensor
    noise: Tensor
    t: Tensor
    captions: tuple[str, ...]
    prior: int = 0


class Denoising:
    """Pictures and captions, encoded once; an `oubliette.train.finetune.SupervisedData` for diffusion models.

    `pictures` are uint8 (n, side, side, 3) at the model's side, or latents (n, C, h, w); latents of pictures
    are the posterior's mean. The loss of a row is the mean squared error of the model's own target (epsilon,
    v or flow) at a timestep drawn uniformly (Ho et al. 2020, eq. 14, in whatever parametrisation the model
    has). With a `prior` set of pictures and captions each batch has as many rows of it, whose mean loss is
    added with `prior_weight` (DreamBooth, Ruiz et al. 2023, eq. 2). The text is encoded with a graph exactly
    where a tensor of the text encoder requires a gradient. UserError for no pictures, or not one caption
    each.
    """

    def __init__(
        self,
        model: DiffusionBackend,
        pictures: np.ndarray | Tensor,
        captions: Sequence[str],
        *,
        prior: tuple[np.ndarray | Tensor, Sequence[str]] | None = None,
        prior_weight: float = 1.0,
    ) -> None:
        if not prior_weight >= 0:
            raise UserError(f"the prior's weight must be at least 0, found {prior_weight}")
        self._rows = _Rows.of(model, pictures, captions)
        self._prior = None if prior is None else _Rows.of(model, *prior)
        self._prior_weight = prior_weight
        self._timesteps = model.train_timesteps

    def __len__(self) -> int:
        return len(self._rows.captions)

    @property
    def captions(self) -> tuple[str, ...]:
        """The captions, the prior set's not among them."""
        return self._rows.captions

    def reworded(self, change: Callable[[str], str]) -> Denoising:
        """The same pictures under other captions, the prior set as it is; UserError where none changes."""
        captions = tuple(change(caption) for caption in self._rows.captions)
        if captions == self._rows.captions:
            raise UserError(
                f"no caption holds the words to be replaced; the first is {captions[0]!r}: captions of the "
                "attack's pictures must name the concept"
            )
        return self._with(replace(self._rows, captions=captions))

    def _with(self, rows: _Rows) -> Denoising:
        """This task on other rows."""
        other = object.__new__(Denoising)
        vars(other).update(vars(self))
        other._rows = rows
        return other

    def halves(self, seed: int) -> tuple[Denoising, Denoising]:
        """The rows dealt at random to two halves, the prior set to both; UserError for a single row."""
        if len(self) < 2:
            raise UserError("one picture cannot be dealt to two halves; give at least two")
        order = torch.randperm(len(self), generator=torch.Generator().manual_seed(seed))
        one, other = (self._with(self._rows.some(half)) for half in order.tensor_split(2))
        return one, other

    def draw_like(self, rng: torch.Generator, batch: Noised) -> Noised:
        """As many rows as `batch` has, under its noise and at its timesteps."""
        own = self.draw(rng, len(batch.captions) - batch.prior)
        if own.noise.shape != batch.noise.shape:
            raise ValueError(f"noise of {tuple(batch.noise.shape)} for rows of {tuple(own.noise.shape)}")
        return replace(own, noise=batch.noise, t=batch.t)

    def draw(self, rng: torch.Generator, count: int) -> Noised:
        """`count` rows, none twice while there are others, and as many of the prior set, with noise each."""
        parts = [self._rows.draw(rng, count, self._timesteps)]
        if self._prior is not None:
            parts.append(self._prior.draw(rng, count, self._timesteps))
        return Noised(
            clean=torch.cat([part.clean for part in parts]),
            noise=torch.cat([part.noise for part in parts]),
            t=torch.cat([part.t for part in parts]),
            captions=tuple(caption for part in parts for caption in part.captions),
            prior=0 if self._prior is None else count,
        )

    def loss(self, model: DiffusionBackend, batch: Noised) -> Tensor:
        """The mean squared error of the batch, a scalar in fp32, the prior's rows with their weight."""
        clean = batch.clean.to(model.device, model.dtype)
        noise = batch.noise.to(model.device, model.dtype)
        t = batch.t.to(model.device)
        text = model.encode_text(batch.captions, grad=model.text_requires_grad)
        predicted = model.predict(model.add_noise(clean, noise, t), t, text)
        target = model.target_of(clean, noise, t)
        errors = (predicted.float() - target.float()).square().flatten(1).mean(dim=1)
        own = len(errors) - batch.prior
        loss = errors[:own].mean()
        return loss + self._prior_weight * errors[own:].mean() if batch.prior else loss


@dataclass(frozen=True)
class _Rows:
    """Latents (n, C, h, w) in float32 on the CPU, a caption each."""

    latents: Tensor
    captions: tuple[str, ...]

    @classmethod
    def of(cls, model: DiffusionBackend, pictures: np.ndarray | Tensor, captions: Sequence[str]) -> _Rows:
        if len(pictures) == 0:
            raise UserError("no pictures to train on; give at least one")
        if len(pictures) != len(captions):
            raise UserError(
                f"one caption a picture: found {len(pictures)} pictures, {len(captions)} captions"
            )
        latents = pictures if isinstance(pictures, Tensor) else _encode(model, pictures)
        if tuple(latents.shape[1:]) != tuple(model.latent_shape):
            raise UserError(
                f"the model's latents are {tuple(model.latent_shape)}, found {tuple(latents.shape[1:])}"
            )
        return cls(latents.detach().float().cpu(), tuple(captions))

    def some(self, places: Tensor) -> _Rows:
        return _Rows(self.latents[places], tuple(self.captions[place] for place in places.tolist()))

    def draw(self, rng: torch.Generator, count: int, timesteps: int) -> Noised:
        rounds = -(-count // len(self.captions))
        order = torch.cat([torch.randperm(len(self.captions), generator=rng) for _ in range(rounds)])
        picked = order[:count]
        clean = self.latents[picked]
        noise = torch.randn(clean.shape, generator=rng)
        t = torch.randint(timesteps, (count,), generator=rng)
        return Noised(clean, noise, t, tuple(self.captions[index] for index in picked.tolist()))


def _encode(model: DiffusionBackend, pictures: np.ndarray) -> Tensor:
    side = model.picture_side
    if pictures.dtype != np.uint8 or pictures.shape[1:] != (side, side, 3):
        raise UserError(
            f"the model's pictures are uint8 ({side}, {side}, 3), found {pictures.dtype} {pictures.shape[1:]}"
        )
    parts = []
    with torch.no_grad(), torch.autocast(model.device.type, enabled=False):
        for first in range(0, len(pictures), _ENCODED_AT_ONCE):
            pixels = torch.from_numpy(np.ascontiguousarray(pictures[first : first + _ENCODED_AT_ONCE]))
            parts.append(model.encode_pictures(pixels.permute(0, 3, 1, 2).float() / 127.5 - 1).float().cpu())
    return torch.cat(parts)
