"""What all attacks share: who says whether the concept is back, how models are asked, what they need."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Protocol

import numpy as np
from pydantic import BaseModel

from oubliette.data.questions import QA

__all__ = [
    "ANSWERS",
    "ANY",
    "FIRST_SEED",
    "NEEDS",
    "PICTURES",
    "Drawing",
    "Examples",
    "Hits",
    "How",
    "Kind",
    "Sampling",
    "What",
]

FIRST_SEED = 2**31
"""The smallest seed of anything an attacker draws or paints."""

What = Literal["concept", "benign", "auxiliary", "unrelated", "prior"]
"""What an attacker's pictures or rows show."""

Hits = Callable[[np.ndarray], np.ndarray]
"""Samples (n, ...), pictures as uint8 (n, H, W, 3), to bool (n,): whether the concept is in each."""

Examples = Callable[[Literal["concept", "benign"]], Sequence[QA]]
"""Rows that an attacker may learn from, none of which is asked: of what was to be forgotten, or not."""

NEEDS = ("pictures", "base", "gradients", "text", "vae", "attachment", "examples")
"""What an attack may need beside the model: pictures of the concept, the model before erasing, gradients
through the network, a text encoder, a VAE, something attached to it, rows to learn from.
"""

PICTURES, ANSWERS, ANY = "pictures", "answers", "any"
"""What an attack looks at: what the models make that it is for, or whatever they make."""


class How(Protocol):
    """How models are asked for samples, pictures or answers; whatever has these will do."""

    @property
    def batch(self) -> int:
        """Samples made at once."""
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


class Drawing(Protocol):
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

    @property
    def passes(self) -> int:
        """A pass a step, two where guidance asks for the empty prompt too."""
        return self.steps * (2 if self.guidance > 1 else 1)

    def make(self, model: Any, prompts: Sequence[str], seeds: Sequence[int]) -> Sequence[Any]:
        """Pictures, uint8 (H, W, 3)."""
        how = {"steps": self.steps, "guidance": self.guidance, "batch": self.batch}
        return list(model.draw(prompts, seeds, **how))

    def together(self, prompts: Sequence[str], samples: Sequence[Any]) -> np.ndarray:
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
