"""How pictures are drawn for measuring: steps, guidance, pictures at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from oubliette.backends.base import draws
from oubliette.core.errors import UserError
from oubliette.eval.pictures.fidelity import pixel_distances
from oubliette.eval.sample_store import Sample

__all__ = ["Sampling", "require_drawing"]


@dataclass(frozen=True)
class Sampling:
    """Denoising steps, guidance scale, pictures a batch (`oubliette.eval.sample_store.How`)."""

    steps: int = 25
    guidance: float = 3.0
    batch: int = 32

    @property
    def passes(self) -> int:
        """A pass a step, two where guidance asks for the empty prompt too."""
        return self.steps * (2 if self.guidance > 1 else 1)

    def check(self, model: Any) -> None:
        """UserError for a model that draws no pictures."""
        require_drawing(model)

    def shortened(self) -> Sampling:
        """Three steps."""
        return replace(self, steps=min(3, self.steps))

    def facts(self, model: Any) -> list[Any]:
        """Sampler, steps and guidance."""
        return [str(getattr(model, "sampler", "ddim")), int(self.steps), float(self.guidance)]

    def make(self, model: Any, prompts: Sequence[str], seeds: Sequence[int]) -> Sequence[Sample]:
        """Pictures, uint8 (n, H, W, 3)."""
        drawn: np.ndarray = model.draw(
            prompts, seeds, steps=self.steps, guidance=self.guidance, batch=self.batch
        )
        return list(drawn)

    def distances(self, own: np.ndarray, other: np.ndarray) -> np.ndarray | None:
        """The pixels' distance, (n,)."""
        return pixel_distances(own, other)

    def together(self, prompts: Sequence[str], samples: Sequence[Sample]) -> np.ndarray:
        """Pictures uint8 (n, H, W, 3)."""
        return np.stack([np.asarray(sample) for sample in samples])


def require_drawing(*models: Any) -> None:
    """UserError for a model that draws no pictures, which judges could look at."""
    for model in models:
        if not draws(model):
            raise UserError(
                f"{model.source}: is a {model.kind} model; only models that draw can be evaluated"
            )
