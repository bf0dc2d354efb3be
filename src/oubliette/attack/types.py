"""What all attacks share: who says whether the concept is back, how pictures are drawn, what they need."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Protocol

import numpy as np
from pydantic import BaseModel

__all__ = ["FIRST_SEED", "NEEDS", "Asking", "Hits", "How", "Kind", "Sampling", "What"]

FIRST_SEED = 2**31
"""The smallest seed of anything an attacker draws or paints."""

What = Literal["concept", "benign", "auxiliary", "prior"]
"""What an attacker's pictures show."""

Hits = Callable[[np.ndarray], np.ndarray]
"""Samples (n, ...), as uint8 pictures (n, H, W, 3), to bool (n,): whether the concept is in each."""

NEEDS = ("pictures", "base", "gradients", "text", "vae", "attachment")
"""What an attack may need beside the model: pictures of the concept, the model before erasing, gradients
through the network, a text encoder, a VAE, something attached to it.
"""


class Asking(Protocol):
    """How a model is asked for what it makes, pictures or answers."""

    @property
    def batch(self) -> int:
        """Samples at once."""
        ...

    @property
    def passes(self) -> int:
        """Forward passes that one sample takes, at most."""
        ...

    def make(self, model: Any, prompts: Sequence[str], seeds: Sequence[int]) -> Sequence[Any]:
        """A sample for each prompt and seed."""
        ...

    def together(self, prompts: Sequence[str], samples: Sequence[Any]) -> np.ndarray:
        """Samples of these prompts as judges see them: an array (n, ...)."""
        ...


class How(Asking, Protocol):
    """How pictures are drawn."""

    @property
    def steps(self) -> int:
        """Denoising steps."""
        ...

    @property
    def guidance(self) -> float:
        """Guidance scale."""
        ...


@dataclass(frozen=True)
class Sampling:
    """How pictures are drawn: steps, guidance scale, pictures a batch."""

    steps: int = 25
    guidance: float = 3.0
    batch: int = 32

    @property
    def passes(self) -> int:
        """A pass a step, two where guidance asks for the empty prompt too."""
        return self.steps * (2 if self.guidance > 1 else 1)

    def make(self, model: Any, prompts: Sequence[str], seeds: Sequence[int]) -> Sequence[np.ndarray]:
        """Pictures, uint8 (n, H, W, 3)."""
        drawn: np.ndarray = model.draw(
            prompts, seeds, steps=self.steps, guidance=self.guidance, batch=self.batch
        )
        return list(drawn)

    def together(self, prompts: Sequence[str], samples: Sequence[np.ndarray]) -> np.ndarray:
        """Pictures uint8 (n, H, W, 3)."""
        return np.stack(samples)


class Kind(Protocol):
    """What every attack's class says of itself, so that it can be listed and planned without being run."""

    name: ClassVar[str]
    kind: ClassVar[Literal["relearn", "prompt", "probe"]]
    about: ClassVar[str]
    """One line."""
    paper: ClassVar[str]
    needs: ClassVar[frozenset[str]]
    """Out of `NEEDS`."""
    Options: ClassVar[type[BaseModel]]
