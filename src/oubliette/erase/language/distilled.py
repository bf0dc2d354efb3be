"""Towards a target distribution made of the model's own logits without the true token: UNDIAL and CE-U."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from oubliette.backends.tokens import IGNORED
from oubliette.erase.language.graddiff import GradDiff, LanguageOptions
from oubliette.train.roles import Draw

if TYPE_CHECKING:
    from oubliette.backends.language import TokenBatch

__all__ = ["CEU", "Undial", "soft_cross_entropy"]


class Undial(GradDiff):
    """Minimise CE(softmax(z_original - beta onehot(y)), p) on the forget answers' tokens + the retain loss.

    The original's own prediction with the true token made less likely: bounded, and its other knowledge is
    the target. Paper: Dong et al., NAACL 2025 (2402.10052).
    """

    name: ClassVar[str] = "undial"
    paper: ClassVar[str] = "Dong et al., UNDIAL, NAACL 2025 (2402.10052)"

    class Options(LanguageOptions):
        """UNDIAL's options; the default is the paper's."""

        beta: float = Field(default=10.0, gt=0, description="by how much the true token's logit is lowered")

    options: Options

    def draw(self, step: int, rng: torch.Generator, batch: int) -> Draw:
        """GradDiff's rows, with the original's logits on the forget rows."""
        draw = super().draw(step, rng, batch)
        draw["original"] = self.teacher(draw["forget"])
        return draw

    def forget_loss(self, draw: Draw) -> Tensor:
        """Cross-entropy to the lowered original."""
        batch = draw["forget"]
        lowered = draw["original"][:, :-1].float()
        labels = batch.labels[:, 1:].to(lowered.device).clamp(min=0)
        lowered = lowered.scatter_add(
            2, labels.unsqueeze(2), lowered.new_full((*labels.shape, 1), -self.options.beta)
        )
        return soft_cross_entropy(lowered.softmax(dim=-1), self.model.predict(batch), batch)


class CEU(GradDiff):
    """Minimise CE(softmax(z without the true token), p) on the forget answers' tokens + the retain loss.

    The target is the model's own prediction of the moment, with the true token's logit at minus infinity and
    no gradient; no reference. `skip` leaves out an answer's first tokens. Paper: Yang, 2025 (2503.01224).
    """

    name: ClassVar[str] = "ceu"
    paper: ClassVar[str] = "Yang, CE-U: Cross Entropy Unlearning, 2025 (2503.01224)"

    class Options(LanguageOptions):
        """CE-U's options; the default is the paper's."""

        skip: int = Field(default=1, ge=0, description="first tokens of an answer that are left alone")

    options: Options

    def forget_loss(self, draw: Draw) -> Tensor:
        """Cross-entropy to the model's own prediction without the true token."""
        batch: TokenBatch = draw["forget"]
        logits = self.model.predict(batch)
        own = logits[:, :-1].detach().float()
        labels = batch.labels[:, 1:].to(own.device)
        without = own.scatter(2, labels.clamp(min=0).unsqueeze(2), float("-inf"))
        place = (labels != IGNORED).cumsum(dim=1)
        return soft_cross_entropy(without.softmax(dim=-1), logits, batch, place > self.options.skip)


def soft_cross_entropy(
    target: Tensor, logits: Tensor, batch: TokenBatch, wanted: Tensor | None = None
) -> Tensor:
    """-sum_v q_v log p_v a counted token, the mean over a row's, then over rows that have any.

    `target` (B, L - 1, V) are probabilities, `logits` (B, L, V) the model's; `wanted` (B, L - 1) narrows what
    counts.
    """
    counted = (batch.labels[:, 1:] != IGNORED).to(logits.device)
    counted = counted if wanted is None else counted & wanted
    each = -(target * F.log_softmax(logits[:, :-1].float(), dim=-1)).sum(dim=-1)
    per_row, rows = (each * counted).sum(dim=1), counted.sum(dim=1)
    some = rows > 0
    return (per_row[some] / rows[some]).mean() if bool(some.any()) else each.sum() * 0
