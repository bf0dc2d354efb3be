"""What all attacks share: who says whether the concept is back, how pictures are drawn, what they need."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal, Protocol

import numpy as np
from pydantic import BaseModel

__all__ = ["FIRST_SEED", "NEEDS", "Hits", "How", "Kind", "Sampling", "What"]

FIRST_SEED = 2**31
"""The smallest seed of anything an attacker draws or paints."""

What = Literal["concept", "benign", "auxiliary", "unrelated", "prior"]
"""What an attacker's pictures or rows show."""

Hits = Callable[[np.ndarray], np.ndarray]
"""uint8 pictures (n, H, W, 3) to bool (n,): whether the concept is in the picture."""

NEEDS = ("pictures", "base", "gradients", "text", "vae", "attachment")
"""What an attack may need beside the model: pictures of the concept, the model before erasing, gradients
through the network, a text encoder, a VAE, something attached to it.
"""


class How(Protocol):
    """How pictures are drawn; whatever has these three will do."""

    @property
    def steps(self) -> int:
        """Denoising steps."""
        ...

    @property
    def guidance(self) -> float:
        """Guidance scale."""
        ...

    @property
    def batch(self) -> int:
        """Pictures at once."""
        ...


@dataclass(frozen=True)
class Sampling:
    """How pictures are drawn: steps, guidance scale, pictures a batch."""

    steps: int = 25
    guidance: float = 3.0
    batch: int = 32


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
