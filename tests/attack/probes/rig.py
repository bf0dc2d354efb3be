"""Tiny models, cases and pictures that the tests of the probes share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

import tiny
from oubliette.attack.types import Sampling
from oubliette.backends.diffusion import DiffusionBackend
from oubliette.data.concept import Concept

CAR = Concept("car", "object")


@dataclass(frozen=True)
class Case:
    prompt: str
    seed: int


CASES = [Case("a photo of a car", 3), Case("a red car", 4), Case("a car in the street", 5)]


@dataclass(frozen=True)
class How(Sampling):
    steps: int = 6
    guidance: float = 2.0
    batch: int = 2


HOW = How()


def backend(prediction: str = "epsilon", seed: int = 0) -> DiffusionBackend:
    return DiffusionBackend.from_pipeline(tiny.pipeline(prediction, seed))


def flow() -> DiffusionBackend:
    from diffusers import FlowMatchEulerDiscreteScheduler

    pipe = tiny.pipeline()
    pipe.scheduler = FlowMatchEulerDiscreteScheduler()
    return DiffusionBackend.from_pipeline(pipe)


def erased(seed: int = 9, names: Any = None, like: int = 0) -> DiffusionBackend:
    """The model of seed `like` with its text-facing tensors (or `names`) nudged."""
    model = backend(seed=like)
    rng = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name in names or model.text_facing():
            parameter = model.tensors()[name]
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=rng))
    return model


def pictures(n: int, side: int = 16) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (n, side, side, 3), dtype=np.uint8)


def prompts_and_seeds() -> tuple[list[str], list[int]]:
    return [case.prompt for case in CASES], [case.seed for case in CASES]


def bits(model: DiffusionBackend) -> dict[str, torch.Tensor]:
    return {name: parameter.detach().clone() for name, parameter in model.tensors().items()}


def same_bits(model: DiffusionBackend, before: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(parameter, before[name]) for name, parameter in model.tensors().items())
