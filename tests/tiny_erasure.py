"""A tiny diffusion model with one erasure prepared on it, shared by the tests of the diffusion methods."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

import tiny
from oubliette.backends.diffusion import DiffusionBackend
from oubliette.data.concept import Concept
from oubliette.erase.prepare import DiffusionData, prepare
from oubliette.erase.request import ErasureRequest
from oubliette.train.config import TrainConfig
from oubliette.train.gradients import micro_batch_rng
from oubliette.train.loop import Loop
from oubliette.train.scope import select
from oubliette.train.weights import Weights

CAR = Concept("car", "object")
VAN_GOGH = Concept("van gogh", "painting", "style")


def backend(prediction: str = "epsilon") -> DiffusionBackend:
    return DiffusionBackend.from_pipeline(tiny.pipeline(prediction))


def request(*concepts: Concept, **more: Any) -> ErasureRequest:
    facts: dict[str, Any] = {
        "prompt_count": 6,
        "picture_count": 6,
        "picture_steps": 2,
        "picture_guidance": 2.0,
    }
    return ErasureRequest(concepts=concepts or (CAR,), **(facts | more))


class Prepared:
    """A method set up on a tiny model, its weights nudged so that teacher and student differ."""

    def __init__(
        self,
        method: Callable[..., Any],
        *,
        nudge: float = 0.05,
        asked: ErasureRequest | None = None,
        scope: str = "xattn-kv",
        model: DiffusionBackend | None = None,
        seed: int = 3,
        **options: Any,
    ) -> None:
        self.model = model or backend()
        self.request = asked or request()
        self.data: DiffusionData = prepare(self.model, self.request, seed=1, show_progress=False)
        self.weights = Weights(select(self.model, scope))
        self.method = method(method.Options(**options), self.request)
        self.method.setup(self.model, self.data, self.weights, seed)
        rng = torch.Generator().manual_seed(9)
        with torch.no_grad():
            for parameter in self.weights.parameters:
                parameter.requires_grad_()
                parameter.add_(nudge * torch.randn(parameter.shape, generator=rng))

    def draw(self, step: int = 0, batch: int = 4) -> Any:
        return self.method.draw(step, micro_batch_rng(7, step, 0), batch)

    def gradient(self, role: str, draw: Any) -> list[torch.Tensor]:
        return list(torch.autograd.grad(self.method.loss(role, draw), self.weights.parameters))


def loop(
    method: Callable[..., Any], *, steps: int = 4, asked: ErasureRequest | None = None, **more: Any
) -> Loop:
    """A loop over a fresh tiny model; `options` are the method's, other keywords the loop's."""
    model = more.pop("model", None) or backend()
    options = more.pop("options", {})
    asked = asked or request()
    config = TrainConfig(steps=steps, batch=2, learning_rate=1e-3, **more.pop("train", {}))
    return Loop(
        model,
        method(method.Options(**options), asked),
        prepare(model, asked, seed=1, show_progress=False),
        Weights(select(model, more.pop("scope", "xattn-kv"))),
        config,
        show_progress=False,
        **more,
    )
