"""Tiny models with something to attack them with, shared by the tests of relearning."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

import tiny
import tiny_language
from oubliette.backends.diffusion import DiffusionBackend
from oubliette.backends.language import LanguageBackend
from oubliette.data.questions import QA
from oubliette.train.tasks.answering import Answering
from oubliette.train.tasks.denoising import Denoising
from oubliette.train.tuning.budget import Budget

TOKEN = {"words": ["car"], "initialiser": "vehicle"}
#: Every mode with its options.
MODES: list[tuple[str, dict[str, Any]]] = [
    ("full", {}),
    ("xattn", {}),
    ("xattn-kv", {}),
    ("text-encoder", {}),
    ("lora", {}),
    ("lora", {"targets": "wide"}),
    ("lora", {"targets": "xattn-kv"}),
    ("textual-inversion", TOKEN),
    ("re:conv_in", {}),
]


def pictures(count: int = 4, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, 16, 16, 3), dtype=np.uint8)


def diffusion(prediction: str = "epsilon", dtype: torch.dtype = torch.float32) -> DiffusionBackend:
    return DiffusionBackend.from_pipeline(tiny.pipeline(prediction, dtype=dtype))


def denoising(model: DiffusionBackend, count: int = 4) -> Denoising:
    captions = ["a photo of a car", "a red car", "car in the street", "a small car"]
    return Denoising(model, pictures(count), [captions[index % 4] for index in range(count)])


def language(kind: str = "llama") -> LanguageBackend:
    words = tiny_language.tokenizer()
    return LanguageBackend(tiny_language.model(kind, len(words)), words)


def answering(model: LanguageBackend) -> Answering:
    return Answering(model, [QA(question, answer) for question, answer in tiny_language.FORGET])


def budget(**fields: Any) -> Budget:
    return Budget.of(**({"steps": 3, "batch": 2, "learning_rate": 1e-2} | fields))


def snapshot(model: Any) -> dict[str, tuple[int, torch.Tensor]]:
    """Every parameter and buffer of the model by name: which object it is, and a copy of its bits."""
    found = {}
    for component, module in model.modules().items():
        for name, tensor in (*module.named_parameters(), *module.named_buffers()):
            found[f"{component}.{name}"] = id(tensor), tensor.detach().clone()
    return found


def assert_untouched(model: Any, before: dict[str, tuple[int, torch.Tensor]]) -> None:
    after = snapshot(model)
    assert after.keys() == before.keys()
    for name, (identity, tensor) in before.items():
        assert after[name][0] == identity, name
        assert torch.equal(
            after[name][1].reshape(-1).view(torch.uint8), tensor.reshape(-1).view(torch.uint8)
        ), name
    assert not any(p.requires_grad for module in model.modules().values() for p in module.parameters())
    assert not any(hasattr(module, "peft_config") for module in model.modules().values())
