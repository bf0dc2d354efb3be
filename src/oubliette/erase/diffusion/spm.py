"""SPM: a rank-one membrane over the transformer blocks erases a concept and is anchored elsewhere."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

import torch
from pydantic import Field, model_validator
from torch import Tensor
from torch.nn import functional as F

from oubliette.backends.text import TextEmbedding
from oubliette.core.validation import StrictModel
from oubliette.erase.diffusion.common import DiffusionObjective
from oubliette.erase.diffusion.esd import esd_target
from oubliette.erase.diffusion.turns import PromptSource, batch_pairs
from oubliette.train.cost import StepCost
from oubliette.train.roles import Draw, Role

_POOLED = "pooled"


def anchor_like(row: Tensor, rng: torch.Generator, low: float, high: float) -> Tensor:
    """A random embedding of the shape of `row`, far from it in direction and about as long, on its device.

    Its direction is a standard Gaussian's over all elements together, its length `row`'s times U(low, high);
    it is accepted with probability 1 - cos(it, row), else drawn anew. In fp32 before it is cast to `row`'s
    dtype.
    """
    target = row.float().cpu()
    while True:
        drawn = torch.randn(target.shape, generator=rng)
        cosine = float((drawn * target).sum() / (drawn.norm() * target.norm()))
        length, chance = torch.rand(2, generator=rng).tolist()
        if chance < 1 - cosine:
            scale = target.norm() * (low + (high - low) * length) / drawn.norm()
            return (drawn * scale).to(row)


class SPM(DiffusionObjective):
    """Semi-permeable membrane: forget mean ||eps_m(x, c) - (eps_0(x, e) - g [eps_0(x, c) - eps_0(x, e)])||^2,
    and weight x mean ||eps_m(x, a) - eps_0(x, a)||^2 on random embeddings a, a retain role (latent
    anchoring).

    e is the neutral (empty) prompt. x comes from a stopped trajectory of the network as trained so far. The
    membrane is the scope's low-rank difference (`rank: 1, alpha: 1` in the preset); with a plain scope the
    same losses train whole tensors. Where the denoiser reads a pooled embedding too, an anchor's is drawn
    likewise. Paper: Lyu et al., CVPR 2024, arXiv 2312.16145.
    """

    name: ClassVar[str] = "spm"
    backend: ClassVar[str] = "diffusion"
    solution: ClassVar[str] = "trained"
    paper: ClassVar[str] = "Lyu et al., One-Dimensional Adapter to Rule Them All, CVPR 2024 (2312.16145)"

    class Options(StrictModel):
        """SPM's options; the defaults are the released ones."""

        eta: float = Field(default=1.0, ge=0, description="g, how far to go against the concept's direction")
        neutral: str = Field(default="", description="the prompt that the concept's direction starts at")
        prompts: PromptSource = Field(default="name", description="the bare name, or the bank's prompts")
        anchors: int = Field(default=4, ge=1, description="random embeddings for each item of a batch")
        anchoring: float = Field(default=1000.0, ge=0, description="weight of the latent anchoring")
        shortest: float = Field(default=0.8, gt=0, description="least length of an anchor, in the concept's")
        longest: float = Field(default=1.2, gt=0, description="greatest length of an anchor")
        trajectory_steps: int = Field(default=30, ge=1, description="sampling steps of a whole trajectory")
        guidance: float = Field(default=3.0, ge=0, description="guidance of the trajectory")

        @model_validator(mode="after")
        def _ordered(self) -> SPM.Options:
            if self.longest < self.shortest:
                raise ValueError(
                    f"longest must not be under shortest, found {self.longest} and {self.shortest}"
                )
            return self

    options: Options

    @classmethod
    def step_cost(cls, options: Any) -> StepCost:
        """Each item is met on a trajectory of its own."""
        return StepCost(trajectory=options.trajectory_steps)

    def roles(self, step: int) -> dict[str, Role]:
        """Forget, and the anchoring as retain role unless its weight is 0."""
        anchoring = {"anchoring": Role("retain", weight=self.options.anchoring)}
        return {"forget": Role("forget"), **(anchoring if self.options.anchoring else {})}

    @torch.no_grad()
    def draw(self, step: int, rng: torch.Generator, batch: int) -> Draw:
        """x_t from a stopped trajectory of the network as it is, the target there, and the anchors with what
        the original network says to them.
        """
        options = self.options
        pairs = batch_pairs(self.request, self.data, options.prompts, step, rng, batch)
        prompts = [pair.target for pair in pairs]
        stop = int(torch.randint(options.trajectory_steps, (1,), generator=rng))
        concept = self.model.encode_text(prompts)
        noisy, t = self.model.trajectory(
            concept, stop, steps=options.trajectory_steps, guidance=options.guidance, generator=rng
        )
        with self.weights.originals():
            concept = self.model.encode_text(prompts)
            texts = [concept, self._neutral(batch)]
            count = 0
            if options.anchoring:
                count = options.anchors
                anchors = self._anchors(concept, rng)
                texts.append(anchors)
            at, when = torch.cat([noisy] * (2 + count)), torch.cat([t] * (2 + count))
            answers = self.model.predict(at, when, TextEmbedding.join(texts))
        said, empty = answers[:batch], answers[batch : 2 * batch]
        draw = Draw(noisy=noisy, t=t, prompts=prompts, goal=esd_target(empty, said, empty, options.eta))
        if options.anchoring:
            draw["anchors"], draw["anchored"] = anchors, answers[2 * batch :]
        return draw

    def loss(self, role: str, draw: Draw) -> Tensor:
        """The erasing loss ("forget"), or the squared distance to the original at the "anchoring"."""
        if role == "anchoring":
            count = self.options.anchors
            noisy, t = torch.cat([draw["noisy"]] * count), torch.cat([draw["t"]] * count)
            prediction = self.model.predict(noisy, t, draw["anchors"])
            return F.mse_loss(prediction.float(), draw["anchored"].float())
        prediction = self.student(draw["noisy"], draw["t"], draw["prompts"])
        return F.mse_loss(prediction.float(), draw["goal"].float())

    def _anchors(self, concept: TextEmbedding, rng: torch.Generator) -> TextEmbedding:
        """The options' number of random embeddings for each row of `concept`: rows 0..B-1, 0..B-1, ..."""
        rows = concept.repeat(self.options.anchors)

        def drawn(value: Tensor) -> Tensor:
            low, high = self.options.shortest, self.options.longest
            return torch.stack([anchor_like(row, rng, low, high) for row in value])

        extra = {name: drawn(value) if name == _POOLED else value for name, value in rows.extra.items()}
        return replace(rows, hidden=drawn(rows.hidden), extra=extra)

    def _neutral(self, batch: int) -> TextEmbedding:
        if not self.options.neutral:
            return self.model.unconditional(batch)
        return self.model.encode_text([self.options.neutral]).repeat(batch)
