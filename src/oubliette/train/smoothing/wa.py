"""The average of the weights on their way."""

from __future__ import annotations

import torch
from torch import Tensor

from oubliette.core.errors import UserError
from oubliette.train.smoothing.base import NoSmoother
from oubliette.train.weights import Weights

__all__ = ["Wa"]


class Wa(NoSmoother):
    """Weight averaging: the run ends in the mean of its weights, from update `start` every `every`.

    mean <- mean + (w - mean) / (n + 1) with n weights in it already (Unlearn-Smooth, arXiv 2502.05374: from
    update 100, every 5; of its 125 updates, six). With `decay` it is a moving average instead, mean <- mean +
    (1 - decay) * (w - mean), from the first of them. Gradients are plain; training itself goes on from w, and
    the mean is written over it after the last update, so that checkpoints and callbacks see w. One copy of
    the trained tensors in fp32, which a checkpoint keeps. Elements that never moved keep their bits. Of
    adapters A and B are averaged each, so that the rank stays. UserError where the run ends before `start`.
    """

    def __init__(self, start: int = 100, every: int = 5, decay: float | None = None) -> None:
        if start < 1 or every < 1:
            raise UserError(f"wa: start and every must be at least 1, found {start} and {every}")
        if decay is not None and not 0 <= decay < 1:
            raise UserError(f"wa: decay must lie in [0, 1), found {decay}")
        self.start, self.every, self.decay = start, every, decay
        self._mean: dict[str, Tensor] = {}
        self._count = 0

    def begin(self, step: int, steps: int, seed: int) -> None:
        """Forget an earlier run's mean; UserError where this one is too short to have any."""
        if self.start > steps:
            raise UserError(
                f"wa: averaging starts after update {self.start}, and train.steps is {steps}; "
                "a lower smoother.start or more steps would do"
            )
        if step == 0:
            self._mean, self._count = {}, 0

    @torch.no_grad()
    def after_step(self, weights: Weights, step: int) -> None:
        """Take the weights into the mean, if it is their turn."""
        done = step + 1 - self.start
        if done < 0 or done % self.every:
            return
        self._count += 1
        share = 1 / self._count if self.decay is None else 1 - self.decay
        for name, parameter in zip(weights.names, weights.parameters, strict=True):
            wide = parameter.detach().to(torch.promote_types(parameter.dtype, torch.float32))
            if name in self._mean:
                # A step towards w, not a weighted sum: what did not move is added nothing to.
                self._mean[name].add_(wide - self._mean[name], alpha=share)
            else:
                self._mean[name] = wide.clone()

    @torch.no_grad()
    def finish(self, weights: Weights) -> None:
        """Write the mean into the weights, rounded once to their dtype."""
        if not self._mean:
            raise UserError(f"wa: the run ended before update {self.start}: there is nothing to average")
        for name, parameter in zip(weights.names, weights.parameters, strict=True):
            parameter.copy_(self._mean[name])

    def facts(self) -> dict[str, float]:
        """`averaged`: how many weights are in the mean."""
        return {"averaged": float(self._count)} if self._count else {}

    def state(self) -> dict[str, Tensor]:
        """The mean, and how many weights are in it."""
        if not self._count:
            return {}
        return {f"mean.{name}": mean for name, mean in self._mean.items()} | {
            "count": torch.tensor(self._count)
        }

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Take the mean back, in memory of its own."""
        prefix = "mean."
        self._count = int(state["count"]) if state else 0
        self._mean = {
            name.removeprefix(prefix): tensor.clone()
            for name, tensor in state.items()
            if name.startswith(prefix)
        }
