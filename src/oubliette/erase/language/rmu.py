"""RMU: what a block makes of the forget rows is steered to a random direction, and left alone elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from oubliette.backends.hooks import read
from oubliette.backends.tokens import IGNORED
from oubliette.core.errors import UserError
from oubliette.erase.language.graddiff import GradDiff, RowOptions
from oubliette.train.roles import Draw

if TYPE_CHECKING:
    from oubliette.backends.language import LanguageBackend, TokenBatch
    from oubliette.erase.language.prepare import LanguageData
    from oubliette.train.weights import Weights

__all__ = ["RMU"]


class RMU(GradDiff):
    """Minimise |h(x_f) - c u|^2 + alpha |h(x_r) - h_original(x_r)|^2, means over tokens and dimensions.

    h is the output of block `layer`, u a fixed direction with entries uniform in 0..1, of norm 1, drawn from
    the run's seed. `adaptive` takes c as that multiple of the mean norm of the original's h on the forget set
    (2408.06223), which makes deeper blocks usable. alpha is the recipe's retain weight. Train the blocks up
    to `layer` alone (scope "re:"). Paper: Li et al., WMDP, ICML 2024 (2403.03218).
    """

    name: ClassVar[str] = "rmu"
    paper: ClassVar[str] = "Li et al., The WMDP Benchmark, ICML 2024 (2403.03218)"

    class Options(RowOptions):
        """RMU's options; the defaults are the paper's for a 7B model."""

        forget_weight: float = Field(default=1.0, gt=0, description="what the forget loss weighs")
        layer: int = Field(default=7, description="the block whose output is steered; -1 is the last")
        steering: float = Field(default=6.5, gt=0, description="c, the length it is steered to")
        adaptive: float | None = Field(
            default=None, gt=0, description="c as a multiple of the original's mean norm, in its place"
        )
        tokens: Literal["all", "answer"] = Field(
            default="all", description="the tokens that count: all of a row, or its answer's"
        )

    options: Options  # type: ignore[assignment]

    @torch.no_grad()
    def setup(self, model: LanguageBackend, data: LanguageData, weights: Weights, seed: int) -> None:
        """Draw the direction; UserError where the block is not there."""
        super().setup(model, data, weights, seed)
        blocks = model.blocks()
        if not -len(blocks) <= self.options.layer < len(blocks):
            raise UserError(
                f"method 'rmu': layer {self.options.layer} is not there; {model.source} has blocks 0 to "
                f"{len(blocks) - 1}"
            )
        first = data.forget.rows.index(torch.arange(min(8, len(data.forget))))
        states = self.states(first)
        width = states.shape[-1]
        rng = torch.Generator().manual_seed(seed)
        direction = torch.rand(width, generator=rng)
        length = self.options.steering
        if self.options.adaptive is not None:
            counted = self.counted(first).to(states.device)
            length = self.options.adaptive * float(states.float().norm(dim=-1)[counted].mean())
        self.target = (length * direction / direction.norm()).to(states.device)

    @torch.no_grad()
    def draw(self, step: int, rng: torch.Generator, batch: int) -> Draw:
        """Rows of each set, with the original's states on the retain rows."""
        draw = Draw(forget=self.data.forget.draw(rng, batch))
        if self.data.retain is not None:
            draw["retain"] = self.data.retain.draw(rng, self.roles(step)["retain"].items(batch))
            with self.weights.originals():
                draw["original"] = self.states(draw["retain"])
        return draw

    def forget_loss(self, draw: Draw) -> Tensor:
        """The squared distance from the direction."""
        return self._distance(draw["forget"], self.target)

    def retain_loss(self, draw: Draw) -> Tensor:
        """The squared distance from the original's states."""
        return self._distance(draw["retain"], draw["original"])

    def states(self, batch: TokenBatch) -> Tensor:
        """The output (B, L, width) of the block."""
        with read(self.model.blocks(), [self.options.layer]) as seen:
            self.model.predict(batch)
        return seen[self.options.layer]

    def counted(self, batch: TokenBatch) -> Tensor:
        """The tokens that count, boolean (B, L)."""
        return batch.attention_mask.bool() if self.options.tokens == "all" else batch.labels != IGNORED

    def _distance(self, batch: TokenBatch, goal: Tensor) -> Tensor:
        states = self.states(batch).float()
        counted = self.counted(batch).to(states.device)
        squared = (states - goal.float()).square().mean(dim=-1)
        return squared[counted].mean()
