"""What the trained diffusion erasers share: noised items, the student's and the teacher's pass, the prior
loss.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn import functional as F

from oubliette.backends.base import TEXT_ENCODER
from oubliette.core.errors import UserError
from oubliette.core.validation import StrictModel
from oubliette.erase.diffusion.detach import detached_first_token, readers
from oubliette.train.cost import StepCost
from oubliette.train.objective import BaseObjective
from oubliette.train.roles import Draw, Role

if TYPE_CHECKING:
    from oubliette.backends.diffusion import DiffusionBackend
    from oubliette.erase.prepare import DiffusionData
    from oubliette.erase.request import ErasureRequest
    from oubliette.train.weights import Weights

Prior = Literal["none", "anchor", "retain"]


class NoiseOptions(StrictModel):
    """Options of every eraser that noises pictures: timesteps, prior, and what the gradient may reach."""

    t_min: int = Field(default=0, ge=0, description="least timestep that is drawn")
    t_max: int | None = Field(
        default=None, ge=1, description="one above the greatest; the model's own by default"
    )
    prior: Prior = Field(
        default="anchor", description="denoising loss on anchor pictures, retain pictures, or none"
    )
    detach_bos: bool = Field(
        default=False, description="no gradient through the first token's keys and values"
    )

    @model_validator(mode="after")
    def _ordered(self) -> NoiseOptions:
        if self.t_max is not None and self.t_max <= self.t_min:
            raise ValueError(f"t_max must exceed t_min, found {self.t_max} and {self.t_min}")
        return self


class DiffusionObjective(BaseObjective):
    """A trained eraser of a diffusion model: knows how to noise, predict and ask the original network.

    The teacher is not a second network: its pass runs with the originals of the few trained tensors swapped
    in.
    """

    budget: ClassVar[tuple[str, ...]] = (*BaseObjective.budget, "data.pictures")
    model: DiffusionBackend
    data: DiffusionData
    weights: Weights

    def __init__(self, options: Any, request: ErasureRequest) -> None:
        self.options = options
        self.request = request

    def setup(self, model: DiffusionBackend, data: DiffusionData, weights: Weights, seed: int) -> None:
        """Take hold of model, data and weights; a text encoder in scope is encoded with its graph."""
        self.model, self.data, self.weights = model, data, weights
        self._text_trained = bool(set(weights.original) & set(model.groups().get(TEXT_ENCODER, [])))
        self._readers: list[nn.Module] = []

    def student(self, noisy: Tensor, t: Tensor, prompts: Sequence[str]) -> Tensor:
        """The network's native output at the weights it holds now, with a graph where gradients are on."""
        grad = self._text_trained and torch.is_grad_enabled()
        text = self.model.encode_text(prompts, grad=grad)
        with detached_first_token(self._readers) if self._readers else nullcontext():
            return self.model.predict(noisy, t, text)

    @torch.no_grad()
    def teacher(self, noisy: Tensor, t: Tensor, prompts: Sequence[str]) -> Tensor:
        """The native output of the original network, without a graph; every bit of the weights returns."""
        with self.weights.originals():
            return self.model.predict(noisy, t, self.model.encode_text(prompts))


class PairObjective(DiffusionObjective):
    """A trained eraser that works on noised pictures, each with its target and its anchor prompt."""

    options: NoiseOptions

    @classmethod
    def step_cost(cls, options: Any) -> StepCost:
        """The anchor's pictures are drawn, and the retained ones where these are the prior."""
        return StepCost(retains=options.prior != "none", pictures=2 if options.prior == "retain" else 1)

    def setup(self, model: DiffusionBackend, data: DiffusionData, weights: Weights, seed: int) -> None:
        """Have the pictures drawn that will be needed, while the model still holds its original weights."""
        super().setup(model, data, weights, seed)
        if self.options.t_max is not None and self.options.t_max > model.train_timesteps:
            raise UserError(f"t_max is {self.options.t_max}, the model has {model.train_timesteps} timesteps")
        self._readers = readers(model, model.text_facing()) if self.options.detach_bos else []
        self.pictures()
        if self.options.prior != "none":
            data.prior(self.options.prior)

    def pictures(self) -> Tensor:
        """Latents (items, C, h, w) of what is noised: the anchor's pictures, unless a method has others."""
        return self.data.anchor_latents()

    def timesteps(self, rng: torch.Generator, batch: int) -> Tensor:
        """Timesteps (batch,) long, uniform over the options' range, on the model's device."""
        last = self.model.train_timesteps if self.options.t_max is None else self.options.t_max
        return torch.randint(self.options.t_min, last, (batch,), generator=rng).to(self.model.device)

    def noised(self, clean: Tensor, rng: torch.Generator) -> dict[str, Tensor]:
        """Latents (B, C, h, w) with their own noise and timesteps: entries clean, noise, t, noisy.

        Clean and noise are in fp32, what the network is given in its own dtype.
        """
        clean = clean.to(self.model.device)
        t = self.timesteps(rng, len(clean))
        noise = torch.randn(clean.shape, generator=rng).to(clean)
        noisy = self.model.add_noise(clean, noise, t).to(self.model.dtype)
        return {"clean": clean, "noise": noise, "t": t, "noisy": noisy}

    def draw_pairs(self, step: int, rng: torch.Generator, batch: int) -> Draw:
        """Noised pictures with both captions, and a prior batch where the options ask for one."""
        items = self.data.pick(step, rng, batch)
        draw = Draw(self.noised(self.pictures()[items], rng))
        draw["items"] = items
        draw["concepts"] = [self.data.items[index].concept for index in items]
        draw["target"] = [self.data.items[index].target for index in items]
        draw["anchor"] = [self.data.items[index].anchor for index in items]
        if self.options.prior != "none":
            prompts, latents = self.data.prior(self.options.prior)
            chosen = torch.randint(len(prompts), (batch,), generator=rng).tolist()
            draw["prior"] = {
                **self.noised(latents[chosen], rng),
                "prompts": [prompts[index] for index in chosen],
            }
        return draw

    def prior_loss(self, draw: Draw) -> Tensor:
        """The ordinary denoising loss on the prior batch: mean ||prediction - target||^2."""
        prior = draw["prior"]
        prediction = self.student(prior["noisy"], prior["t"], prior["prompts"])
        target = self.model.target_of(prior["clean"], prior["noise"], prior["t"])
        return F.mse_loss(prediction.float(), target.float())

    def prior_role(self) -> dict[str, Role]:
        """The retain role of the prior loss, or nothing where the options have no prior."""
        return {"prior": Role("retain")} if self.options.prior != "none" else {}
