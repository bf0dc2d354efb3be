"""A toy world for the tests of this room: a concept is a colour, a model draws the colours that it knows."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from oubliette.backends.base import DENOISER
from oubliette.data.concept import Concept

#: Name -> (colour, a synonym that only the withheld prompts use, kind)
THINGS = {
    "car": ((200, 30, 30), "automobile", "object"),
    "truck": ((30, 200, 30), "lorry", "object"),
    "boat": ((30, 30, 200), "vessel", "object"),
    "neon": ((200, 200, 30), "glowing", "style"),
    "flat": ((30, 200, 200), "poster", "style"),
}
CAR = Concept("car", "object", "object")
TRUCK = Concept("truck", "object", "object")
NEON = Concept("neon", "picture", "style")
RETAINED = [
    Concept("truck", "object", "object"),
    Concept("boat", "object", "object"),
    Concept("flat", "picture", "style"),
]


class ToyModel:
    """Draws the colour of the first known thing that a prompt names, grey for the rest, noise once it is
    shuffled.
    """

    kind = "diffusion"
    world = None
    sampler = "toy"

    def __init__(self, knows: Sequence[str] = tuple(THINGS), source: str = "toy") -> None:
        self.knows = tuple(knows)
        self.source = source
        self.device = torch.device("cpu")
        self.weight = torch.nn.Parameter(torch.arange(12.0).reshape(3, 4))
        self.calls: list[tuple[str, int]] = []

    def tensors(self) -> dict[str, torch.nn.Parameter]:
        return {"unet.weight": self.weight}

    def groups(self) -> dict[str, list[str]]:
        return {DENOISER: ["unet.weight"]}

    def fingerprint(self) -> str:
        content = f"{self.knows}{self.weight.detach().numpy().tobytes()!r}"
        return hashlib.sha256(content.encode()).hexdigest()

    def draw(self, prompts: Sequence[str], seeds: Sequence[int], **how: Any) -> np.ndarray:
        self.calls += list(zip(prompts, seeds, strict=True))
        whole = torch.equal(self.weight.detach(), torch.arange(12.0).reshape(3, 4))
        return np.stack([self._one(prompt, seed, whole) for prompt, seed in zip(prompts, seeds, strict=True)])

    def _one(self, prompt: str, seed: int, whole: bool) -> np.ndarray:
        rng = np.random.default_rng(seed)
        if not whole:
            return rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
        colour = (128, 128, 128)
        for name in self.knows:
            if name in prompt or THINGS[name][1] in prompt:
                colour = THINGS[name][0]
                break
        picture = np.array(colour) + rng.integers(-20, 21, (8, 8, 3))
        return picture.clip(0, 255).astype(np.uint8)


class ToyJudge:
    """Finds a concept where the mean colour is its colour."""

    name = "toy"
    fingerprint = "0" * 64
    threshold: float | None = 40.0

    def covers(self, concept: Concept) -> bool:
        return concept.name in THINGS

    def hits(self, pictures: np.ndarray, concept: Concept) -> np.ndarray:
        mean = pictures.reshape(len(pictures), -1, 3).mean(1)
        return np.abs(mean - np.array(THINGS[concept.name][0])).max(1) < 40


class ToyBank:
    """Prompts by name in-set, by synonym withheld."""

    def evaluation(self, concept: Concept, n: int, split: str = "in-set", seed: int = 0) -> list[str]:
        word = concept.name if split == "in-set" else THINGS.get(concept.name, ((), concept.name, ""))[1]
        return [f"a picture of a {word}, number {index}" for index in range(n)]

    def anchor_evaluation(self, concept: Concept, n: int, seed: int = 0) -> list[str]:
        return [f"a picture of an {concept.anchor}, number {index}" for index in range(n)]


class ToyExtractor:
    """Features: the mean colour and a few raw pixels."""

    name = "toy pixels"
    fingerprint = "1" * 64

    def features(self, pictures: np.ndarray) -> np.ndarray:
        flat = pictures.reshape(len(pictures), -1).astype(np.float32) / 255
        return np.concatenate([flat[:, :12], pictures.mean((1, 2)).astype(np.float32) / 255], 1)
