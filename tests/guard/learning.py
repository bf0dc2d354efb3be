"""Tiny models with something to guard against, shared by the tests of learning a mask."""

from __future__ import annotations

from typing import Any

import torch

import tiny_language
from attack.attacked import diffusion, language, pictures
from oubliette.data.questions import QA
from oubliette.guard.learn.candidates import Candidates
from oubliette.guard.learn.difference import Difference
from oubliette.guard.learn.problem import Problem
from oubliette.train.config import TrainConfig
from oubliette.train.tasks.answering import Answering
from oubliette.train.tasks.denoising import Denoising, Noised

#: A user who moves a tiny model far enough in a few steps.
USER = TrainConfig(steps=4, batch=2, learning_rate=3e-3, clip=1.0)
#: Every learner with options that keep it short.
SHORT: dict[str, dict[str, Any]] = {
    "saliency": {"batches": 2, "points": 2},
    "bilevel": {
        "steps": 6,
        "batches": 1,
        "pool": 2,
        "start_batches": 1,
        "start_points": 1,
        "user_steps": 1,
        "reset_every": 2,
        "hard_share": 0.3,
    },
    "released": {"steps": 4, "interval": 2},
    "random": {},
    "layer-type": {"type": "convolution"},
    "largest": {},
    "fisher-ratio": {"batches": 1},
    "gradient-difference": {"batches": 1},
    "block": {"batches": 1, "points": 1},
}


class Plain:
    """The same data for whoever knows no more of it than how to draw and its loss."""

    def __init__(self, data: Denoising) -> None:
        self._data = data

    def draw(self, rng: torch.Generator, count: int) -> Noised:
        return self._data.draw(rng, count)

    def loss(self, model: Any, batch: Noised) -> torch.Tensor:
        return self._data.loss(model, batch)


def cars(model: Any, count: int = 4) -> Denoising:
    """The illegal side."""
    captions = ["a photo of a car", "a red car", "car in the street", "a small car"]
    return Denoising(model, pictures(count, 0), [captions[place % 4] for place in range(count)])


def dogs(model: Any, count: int = 6) -> Denoising:
    """The innocent side: another number of rows, other pictures."""
    captions = ["a photo of a dog", "a blue dog", "dog near the house"]
    return Denoising(model, pictures(count, 1), captions * (count // 3))


def shaken(model: Any, scale: float = 2e-2, seed: int = 5) -> dict[str, torch.Tensor]:
    """What some fine-tuning might have made of the model's tensors, by name."""
    rng = torch.Generator().manual_seed(seed)
    return {
        name: tensor.detach() + scale * torch.randn(tensor.shape, generator=rng).to(tensor.dtype)
        for name, tensor in model.tensors().items()
    }


def problem(
    model: Any = None, *, scope: str = "full", each: Any = "weight", dtype: str = "bfloat16", **more: Any
) -> Problem:
    """A problem on a tiny model: cars are illegal, dogs innocent, theta_ft is a random step away."""
    model = model or diffusion()
    candidates = Candidates.of(model, scope, each=each)
    fields: dict[str, Any] = {"batch": 2, "user": USER}
    if "illegal" not in more:
        fields |= {"illegal": [cars(model)], "innocent": [dogs(model)]}
    difference = Difference.between(model, candidates, shaken(model), dtype)
    return Problem(model, candidates, difference, **(fields | more))


def answers(model: Any) -> tuple[Answering, Answering]:
    """Both sides for a language model."""
    sides = (tiny_language.FORGET, tiny_language.RETAIN)
    wrong, right = (Answering(model, [QA(question, answer) for question, answer in rows]) for rows in sides)
    return wrong, right


def talk() -> Any:
    """A tiny language model."""
    return language("llama")
