"""GradDiff: gradient ascent on the forget set, and training on the retain set."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from oubliette.backends.tokens import IGNORED
from oubliette.core.validation import StrictModel
from oubliette.train.cost import StepCost
from oubliette.train.objective import BaseObjective
from oubliette.train.roles import Draw, Role

if TYPE_CHECKING:
    from oubliette.backends.language import LanguageBackend, TokenBatch
    from oubliette.erase.language.prepare import LanguageData
    from oubliette.erase.request import ErasureRequest
    from oubliette.train.weights import Weights

__all__ = ["ANCHORS", "GradDiff", "LanguageOptions", "RowOptions", "mean_divergence"]


class RowOptions(StrictModel):
    """The option of every language eraser: how many rows it is held in place by."""

    retain_batch: float = Field(default=1.0, gt=0, description="retain rows for each of a step's forget rows")


class LanguageOptions(RowOptions):
    """Options of most language erasers: the forget loss's weight, and what holds the retain set in place."""

    forget_weight: float = Field(default=1.0, gt=0, description="what the forget loss weighs")
    retain: Literal["nll", "kl", "reverse_kl", "cross_entropy"] = Field(
        default="nll",
        description="train on the answers, or stay near the original: KL(original || model), KL(model || "
        "original), or the latter without the model's own entropy, as FIT has it",
    )


class GradDiff(BaseObjective):
    """Minimise -gamma * nll(forget) + alpha * retain loss, both means per token, then per row.

    gamma is the option `forget_weight`, alpha the recipe's retain weight. The retain loss is the retain
    set's own nll, or one of `ANCHORS` on its counted tokens. Paper: Liu et al., CoLLAs 2022 (Continual
    Learning and Private Unlearning); as a baseline in TOFU, arXiv 2401.06121. The anchor "cross_entropy" is
    FIT's (2601.21682), which calls it KL.
    """

    name: ClassVar[str] = "graddiff"
    backend: ClassVar[str] = "language"
    solution: ClassVar[str] = "trained"
    paper: ClassVar[str] = "Maini et al., TOFU: A Task of Fictitious Unlearning for LLMs, 2024 (2401.06121)"
    inner: ClassVar[tuple[str, ...]] = ("relearn",)

    class Options(LanguageOptions):
        """GradDiff's options."""

    @classmethod
    def step_cost(cls, options: Any) -> StepCost:
        """A forget pass, its target, and the retain rows'."""
        return StepCost(retain_batch=options.retain_batch)

    def __init__(self, options: LanguageOptions, request: ErasureRequest) -> None:
        self.options = options
        self.request = request

    def setup(self, model: LanguageBackend, data: LanguageData, weights: Weights, seed: int) -> None:
        """Take hold of model, data and weights."""
        self.model, self.data, self.weights = model, data, weights

    def roles(self, step: int) -> dict[str, Role]:
        """Forget in every step, retain where there is a retain set, and who relearns the forget rows."""
        roles = {"forget": Role("forget", weight=self.options.forget_weight)}
        if self.data.retain is not None:
            roles["retain"] = Role("retain", batch=self.options.retain_batch)
        return {**roles, "relearn": Role("inner")}

    def draw(self, step: int, rng: torch.Generator, batch: int) -> Draw:
        """Rows of each set, and for an anchor the original's logits on the retain rows."""
        picked = self.data.forget.pick(rng, batch)
        draw = Draw(picked=picked, forget=self.data.forget.rows.index(picked))
        if self.data.retain is not None:
            draw["retain"] = self.data.retain.draw(rng, self.roles(step)["retain"].items(batch))
            if self.options.retain in ANCHORS:
                draw["teacher"] = self.teacher(draw["retain"])
        return draw

    def loss(self, role: str, draw: Draw) -> Tensor:
        """The role's loss, a scalar in fp32; that of "relearn" is the forget rows' nll."""
        if role == "relearn":
            return self.data.forget.loss(self.model, draw["forget"])
        return self.forget_loss(draw) if role == "forget" else self.retain_loss(draw)

    def forget_loss(self, draw: Draw) -> Tensor:
        """Minus the nll: the log-likelihood per token, to be brought down."""
        return -self.data.forget.loss(self.model, draw["forget"])

    def retain_loss(self, draw: Draw) -> Tensor:
        """The nll of the retain rows, or how far their counted tokens are from the original's."""
        batch: TokenBatch = draw["retain"]
        if self.options.retain == "nll":
            assert self.data.retain is not None
            return self.data.retain.loss(self.model, batch)
        return mean_divergence(draw["teacher"], self.model.predict(batch), batch, self.options.retain)

    @torch.no_grad()
    def teacher(self, batch: TokenBatch) -> Tensor:
        """The original model's logits, without a graph; every bit of the weights returns."""
        with self.weights.originals():
            return self.model.predict(batch)


def _kl(teacher: Tensor, student: Tensor) -> Tensor:
    return F.kl_div(student, teacher, reduction="none", log_target=True).sum(dim=-1)


def _cross_entropy(teacher: Tensor, student: Tensor) -> Tensor:
    return -(student.exp() * teacher).sum(dim=-1)


#: How far a model's log-probabilities (..., V) are from the original's, a number a position: KL(original ||
#: model), KL(model || original), and -sum p_model log p_original: the latter and the model's entropy.
ANCHORS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "kl": _kl,
    "reverse_kl": lambda teacher, student: _kl(student, teacher),
    "cross_entropy": _cross_entropy,
}


def mean_divergence(teacher: Tensor, student: Tensor, batch: TokenBatch, anchor: str = "kl") -> Tensor:
    """An anchor of `ANCHORS` per counted token, averaged over a row, then over rows; logits (B, L, V)."""
    counted = (batch.labels[:, 1:] != IGNORED).to(student.device)
    apart = ANCHORS[anchor](
        F.log_softmax(teacher[:, :-1].float(), dim=-1), F.log_softmax(student[:, :-1].float(), dim=-1)
    )
    return ((apart * counted).sum(dim=1) / counted.sum(dim=1)).mean()
