"""Drawing pictures and partial trajectories, for any backend that can encode, predict and decode."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from oubliette.backends.attachment import Attachable, Guides
from oubliette.backends.guidance import Guidance, Guide
from oubliette.backends.sampling import check_steps, denoise, make_scheduler, start_noise
from oubliette.backends.text import TextEmbedding


class Drawing(Attachable):
    """The drawing half of a diffusion backend; the other half gives what is declared here.

    An attachment that guides has its say in whatever is drawn, save in `trajectory`: that serves training,
    which is after the weights. One that hooks the network is in force in every pass.
    """

    latent_shape: tuple[int, int, int]
    train_timesteps: int
    sampler: str
    scheduler_config: dict[str, Any]
    encode_text: Callable[..., TextEmbedding]
    unconditional: Callable[[int], TextEmbedding]
    predict: Callable[[Tensor, Tensor, TextEmbedding], Tensor]
    decode: Callable[[Tensor], np.ndarray]

    if TYPE_CHECKING:

        @property
        def device(self) -> torch.device: ...

        @property
        def dtype(self) -> torch.dtype: ...

    def draw(
        self,
        prompts: Sequence[str],
        seeds: Sequence[int],
        *,
        steps: int = 25,
        guidance: float = 3.0,
        batch: int = 32,
        progress: Callable[[int, int], None] | None = None,
    ) -> np.ndarray:
        """Draw one picture for each prompt and seed: (n, H, W, 3) uint8.

        Each seed starts a fresh CPU generator, so that it gives the same start whatever the batch.
        `progress(done, total)` is called after each batch.
        """
        drawn = self._drawn(prompts, seeds, steps, guidance, batch, progress)
        parts = [self.decode(latents) for latents in drawn]
        return np.concatenate(parts) if parts else self.decode(torch.zeros((1, *self.latent_shape)))[:0]

    def draw_latents(
        self,
        prompts: Sequence[str],
        seeds: Sequence[int],
        *,
        steps: int = 25,
        guidance: float = 3.0,
        batch: int = 32,
        progress: Callable[[int, int], None] | None = None,
        on_step: Callable[[int, int], None] | None = None,
    ) -> Tensor:
        """As `draw`, before decoding: (n, C, h, w) float32 on the model's device.

        `on_step(done, total)` is called after each sampling step of a batch, in pictures' worth of steps.
        """
        drawn = self._drawn(prompts, seeds, steps, guidance, batch, progress, on_step)
        parts = [latents.float() for latents in drawn]
        return torch.cat(parts) if parts else torch.zeros((0, *self.latent_shape), device=self.device)

    def trajectory(
        self,
        text: TextEmbedding,
        stop: int,
        *,
        steps: int = 50,
        guidance: float = 3.0,
        generator: torch.Generator | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Run `stop` (0..steps-1) of `steps` guided steps from fresh noise; returns (x_t, t), t (B,) long.

        t is where the next step would predict; no graph. The partial trajectories of ESD (Gandikota et al.
        2023).
        """
        device = generator.device if generator is not None else "cpu"
        noise = torch.randn((len(text), *self.latent_shape), generator=generator, device=device)
        return self._denoise(noise, self._plain((), text, guidance, steps), stop, steps=steps)

    def guide(self, prompts: Sequence[str], *, guidance: float, steps: int) -> Guide:
        """How a batch of prompts (B,) is drawn: guidance, changed by what is attached to the model."""
        plain = self._plain(prompts, self.encode_text(list(prompts)), guidance, steps)
        return self.attachment.guide(self, plain) if isinstance(self.attachment, Guides) else plain

    def _drawn(
        self,
        prompts: Sequence[str],
        seeds: Sequence[int],
        steps: int,
        guidance: float,
        batch: int,
        progress: Callable[[int, int], None] | None,
        on_step: Callable[[int, int], None] | None = None,
    ) -> Iterator[Tensor]:
        if len(prompts) != len(seeds):
            raise ValueError(f"one seed a prompt: found {len(prompts)} prompts and {len(seeds)} seeds")
        for first in range(0, len(prompts), batch):
            guide = self.guide(prompts[first : first + batch], guidance=guidance, steps=steps)
            noise = start_noise(self.latent_shape, seeds[first : first + batch])
            told = None if on_step is None else _within(on_step, first, len(noise), len(prompts), steps)
            yield self._denoise(noise, guide, None, steps=steps, on_step=told)[0]
            if progress is not None:  # the caller has decoded the batch by the time it asks for the next
                progress(min(first + batch, len(prompts)), len(prompts))

    def _plain(self, prompts: Sequence[str], text: TextEmbedding, guidance: float, steps: int) -> Guidance:
        empty = self.unconditional(len(text))
        return Guidance(self.predict, text, empty, guidance, steps, tuple(prompts))

    def _denoise(
        self,
        noise: Tensor,
        guide: Guide,
        stop: int | None,
        *,
        steps: int,
        on_step: Callable[[int], None] | None = None,
    ) -> tuple[Tensor, Tensor]:
        check_steps(steps, self.scheduler_config)
        scheduler = make_scheduler(self.sampler, self.scheduler_config)
        return denoise(
            guide, scheduler, noise.to(self.device, self.dtype), steps=steps, stop=stop, on_step=on_step
        )


def _within(
    told: Callable[[int, int], None], first: int, count: int, total: int, steps: int
) -> Callable[[int], None]:
    """What `denoise` calls after each step of a batch of `count` pictures that begins at `first`."""
    return lambda number: told(first + count * (number + 1) // steps, total)
