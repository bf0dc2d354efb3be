"""ESD: the concept's prediction is moved against the direction that the concept's guidance would take."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor
from torch.nn import functional as F

from oubliette.backends.text import TextEmbedding
from oubliette.core.validation import StrictModel
from oubliette.erase.diffusion.common import DiffusionObjective
from oubliette.erase.diffusion.turns import PromptSource, batch_pairs
from oubliette.train.cost import StepCost
from oubliette.train.roles import Draw, Role

if TYPE_CHECKING:
    from oubliette.erase.request import ErasureRequest


def esd_target(start: Tensor, concept: Tensor, empty: Tensor, eta: float) -> Tensor:
    """start - eta (concept - empty), of three predictions of the original network at the same x_t."""
    return start - eta * (concept - empty)


class ESD(DiffusionObjective):
    """Erased Stable Diffusion: mean ||eps_th(x_t, c) - (e - eta [eps_0(x_t, c) - eps_0(x_t, empty)])||^2.

    Two conventions of eta are in use, so it is named: in the paper e = eps_0(x_t, empty); in the released
    rewrite e = eps_0(x_t, c_from) with c_from = c unless `erase_from` is given. Hence eta_released =
    eta_paper + 1 says the same. x_t is no noised picture: the original model denoises pure noise for a random
    number of guided steps. With `erase_from` the parent's prompt is drawn and trained, and `concept` is the
    attribute that it loses. The scope decides the variant: ESD-x is scope xattn, ESD-u non-xattn. Paper:
    Gandikota et al., ICCV 2023, arXiv 2303.07345.
    """

    name: ClassVar[str] = "esd"
    backend: ClassVar[str] = "diffusion"
    solution: ClassVar[str] = "trained"
    paper: ClassVar[str] = "Gandikota et al., Erasing Concepts from Diffusion Models, ICCV 2023 (2303.07345)"

    class Options(StrictModel):
        """ESD's options; the defaults are the paper's."""

        eta: float = Field(default=1.0, ge=0, description="how far to go against the concept's direction")
        eta_convention: Literal["paper", "released"] = Field(
            default="paper", description="eta_released = eta_paper + 1"
        )
        erase_from: str | None = Field(
            default=None, description="parent prompt that loses the concept (released only)"
        )
        prompts: PromptSource = Field(default="name", description="the bare name, or the bank's prompts")
        trajectory_steps: int = Field(default=50, ge=1, description="sampling steps of a whole trajectory")
        guidance: float = Field(default=3.0, ge=0, description="guidance of the trajectory")

        @model_validator(mode="after")
        def _parent_needs_released(self) -> ESD.Options:
            if self.erase_from is not None and self.eta_convention == "paper":
                raise ValueError(
                    "erase_from belongs to eta_convention 'released'; the paper's starts at the empty prompt"
                )
            return self

    options: Options

    @classmethod
    def step_cost(cls, options: Any) -> StepCost:
        """Each item is met on a trajectory of its own."""
        return StepCost(trajectory=options.trajectory_steps)

    def __init__(self, options: Options, request: ErasureRequest) -> None:
        super().__init__(options, request)

    def roles(self, step: int) -> dict[str, Role]:
        """Forget alone."""
        return {"forget": Role("forget")}

    def draw(self, step: int, rng: torch.Generator, batch: int) -> Draw:
        """x_t from a stopped trajectory of the original model, and the target made of its predictions there.

        The whole batch stops at the same step, as a sampler runs; the step is drawn anew each time.
        """
        pairs = batch_pairs(self.request, self.data, self.options.prompts, step, rng, batch)
        return self.met([pair.target for pair in pairs], rng)

    def met(self, concepts: list[str], rng: torch.Generator) -> Draw:
        """Drawn for these concept prompts: "concept" is the original's prediction, "goal" the target."""
        batch = len(concepts)
        parents = concepts if self.options.erase_from is None else [self.options.erase_from] * batch
        stop = int(torch.randint(self.options.trajectory_steps, (1,), generator=rng))
        with torch.no_grad(), self.weights.originals():
            texts = [self.model.encode_text(concepts), self.model.unconditional(batch)]
            if self.options.erase_from is not None:
                texts.append(self.model.encode_text(parents))
            noisy, t = self.model.trajectory(
                texts[-1] if self.options.erase_from is not None else texts[0],
                stop,
                steps=self.options.trajectory_steps,
                guidance=self.options.guidance,
                generator=rng,
            )
            # One pass of the original network for all that is asked of it at this x_t.
            asked = len(texts)
            answers = self.model.predict(
                torch.cat([noisy] * asked), torch.cat([t] * asked), TextEmbedding.join(texts)
            ).chunk(asked)
        concept, empty = answers[:2]
        start = empty if self.options.eta_convention == "paper" else answers[-1] if asked == 3 else concept
        goal = esd_target(start, concept, empty, self.options.eta)
        return Draw(noisy=noisy, t=t, concepts=concepts, prompts=parents, concept=concept, goal=goal)

    def loss(self, role: str, draw: Draw) -> Tensor:
        """The squared distance to the target, in the network's native output."""
        prediction = self.student(draw["noisy"], draw["t"], draw["prompts"])
        return F.mse_loss(prediction.float(), draw["goal"].float())
