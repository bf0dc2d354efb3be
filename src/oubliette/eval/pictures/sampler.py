"""A row of the table as something that draws: the model under test, the base, or a control."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from oubliette.eval.pictures.cache import PictureCache, Progress, picture_key


@dataclass(frozen=True)
class Sampling:
    """How pictures are drawn: steps, guidance scale, pictures a batch."""

    steps: int = 25
    guidance: float = 3.0
    batch: int = 32


class Painter:
    """Draws prompts through the picture cache as one row of the table.

    `role` is "model" or "control". `rewrite` changes a prompt before it is drawn (the prompt filter). The
    model's hash is taken once: its weights must not change while the painter is in use.
    """

    def __init__(
        self,
        name: str,
        model: Any,
        cache: PictureCache,
        sampling: Sampling,
        *,
        role: str = "model",
        rewrite: Callable[[str], str] | None = None,
        fingerprint: str | None = None,
    ) -> None:
        self.name = name
        self.role = role
        self.model = model
        self.cache = cache
        self.sampling = sampling
        self.fingerprint: str = fingerprint or model.fingerprint()
        self._rewrite = rewrite

    def like(
        self,
        name: str,
        model: Any,
        *,
        rewrite: Callable[[str], str] | None = None,
        fingerprint: str | None = None,
    ) -> Painter:
        """A painter of the same role that draws another model in the same way into the same cache."""
        return Painter(
            name, model, self.cache, self.sampling, role=self.role, rewrite=rewrite, fingerprint=fingerprint
        )

    def fill(self, prompts: Sequence[str], seeds: Sequence[int], *, progress: Progress | None = None) -> None:
        """Have every picture in the cache; many at once, so that batches are full."""
        how = self.sampling
        self.cache.fill(
            self.model,
            self._rewritten(prompts),
            seeds,
            steps=how.steps,
            guidance=how.guidance,
            batch=how.batch,
            fingerprint=self.fingerprint,
            progress=progress,
        )

    def recall(self, prompts: Sequence[str], seeds: Sequence[int]) -> np.ndarray:
        """Pictures that `fill` has put there, uint8 (n, H, W, 3); draws nothing, whatever the weights are."""
        return self.cache.read(self.keys(prompts, seeds))

    def keys(self, prompts: Sequence[str], seeds: Sequence[int]) -> list[str]:
        """The cache's key of each picture."""
        sampler = str(getattr(self.model, "sampler", "ddim"))
        how = self.sampling
        return [
            picture_key(
                self.fingerprint, prompt, seed, sampler=sampler, steps=how.steps, guidance=how.guidance
            )
            for prompt, seed in zip(self._rewritten(prompts), seeds, strict=True)
        ]

    def _rewritten(self, prompts: Sequence[str]) -> list[str]:
        return list(prompts) if self._rewrite is None else [self._rewrite(prompt) for prompt in prompts]
