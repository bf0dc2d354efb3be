"""RR, circuit breakers: what blocks make of the forget rows is turned away from what the original makes."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from oubliette.backends.hooks import read
from oubliette.backends.tokens import TokenBatch
from oubliette.erase.language.graddiff import GradDiff, RowOptions
from oubliette.train.roles import Draw, Role

if TYPE_CHECKING:
    from oubliette.backends.language import LanguageBackend
    from oubliette.erase.language.prepare import LanguageData
    from oubliette.train.weights import Weights

__all__ = ["RR", "mean_distance"]


class RR(GradDiff):
    """Minimise (1 - s) mean ReLU(cos(h, h_original)) on forget rows + s mean |h - h_original| on retain rows.

    s goes from 0 to 1 over the run: first the representation is rerouted, then what is kept is mended. h are
    the outputs of `layers` on the forget rows and of every block on the retain rows. Both are means over
    tokens and blocks; `alpha` weighs both. The original is a saddle of the forget loss and a kink of the
    retain loss: a ramp much shorter than the published one may never leave it. Paper: Zou et al.,
    NeurIPS 2024 (2406.04313).
    """

    name: ClassVar[str] = "rr"
    paper: ClassVar[str] = "Zou et al., Circuit Breakers, NeurIPS 2024 (2406.04313)"

    class Options(RowOptions):
        """RR's options; the defaults are the released ones for an 8B model."""

        layers: list[int] = Field(default=[10, 20], min_length=1, description="blocks that are rerouted")
        alpha: float = Field(default=10.0, gt=0, description="what both losses weigh")
        ramp: int = Field(default=300, ge=1, description="steps after which the forget loss weighs nothing")

    options: Options  # type: ignore[assignment]

    def setup(self, model: LanguageBackend, data: LanguageData, weights: Weights, seed: int) -> None:
        """Take hold of model, data and weights; UserError for blocks that are not there."""
        super().setup(model, data, weights, seed)
        self._every = list(range(len(model.blocks())))
        with read(model.blocks(), self.options.layers):
            pass

    def roles(self, step: int) -> dict[str, Role]:
        """Forget with a weight that falls, retain with one that rises."""
        share = min(1.0, step / self.options.ramp)
        roles = {"forget": Role("forget", weight=self.options.alpha * (1 - share))}
        if self.data.retain is not None:
            weight = self.options.alpha * share
            roles["retain"] = Role("retain", weight=weight, batch=self.options.retain_batch)
        return {**roles, "relearn": Role("inner")}

    @torch.no_grad()
    def draw(self, step: int, rng: torch.Generator, batch: int) -> Draw:
        """Rows of each set, with the original's states on both."""
        draw = Draw(forget=self.data.forget.draw(rng, batch))
        with self.weights.originals():
            draw["original"] = self.states(draw["forget"], self.options.layers)
            if self.data.retain is not None:
                draw["retain"] = self.data.retain.draw(rng, self.roles(step)["retain"].items(batch))
                draw["kept"] = self.states(draw["retain"], self._every)
        return draw

    def forget_loss(self, draw: Draw) -> Tensor:
        """The mean over blocks and tokens of ReLU(cos)."""
        batch = draw["forget"]
        states = self.states(batch, self.options.layers)
        there = batch.attention_mask.bool().to(states.device)
        return F.cosine_similarity(states, draw["original"], dim=-1).relu()[:, there].mean()

    def retain_loss(self, draw: Draw) -> Tensor:
        """The mean over blocks and tokens of the distance."""
        batch = draw["retain"]
        return mean_distance(self.states(batch, self._every), draw["kept"], batch)

    def states(self, batch: TokenBatch, layers: list[int]) -> Tensor:
        """Outputs of the blocks, fp32 (blocks, B, L, width)."""
        with read(self.model.blocks(), layers) as seen:
            self.model.predict(batch)
        return torch.stack([seen[index].float() for index in layers])


def mean_distance(states: Tensor, kept: Tensor, batch: TokenBatch) -> Tensor:
    """The mean over blocks and tokens of |h - h_kept|, of states (blocks, B, L, width)."""
    there = batch.attention_mask.bool().to(states.device)
    # A norm has no slope at 0, where every run begins.
    return ((states - kept).square().sum(dim=-1) + 1e-12).sqrt()[:, there].mean()
