"""NPO: push the forget answers below the original model's likelihood of them, and then leave them be."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from oubliette.erase.language.graddiff import GradDiff, LanguageOptions
from oubliette.train.roles import Draw

if TYPE_CHECKING:
    from oubliette.backends.language import LanguageBackend
    from oubliette.erase.language.prepare import LanguageData
    from oubliette.train.weights import Weights

__all__ = ["NPO", "preference_loss"]

_REFERENCE_BATCH = 8  # rows a pass when the original's likelihoods are computed


class NPO(GradDiff):
    """Minimise -(2 / beta) mean_i log sigmoid(-beta log(p_model(y_i) / p_original(y_i))) + the retain loss.

    p(y_i) is the probability of the whole answer: its log is summed over tokens. The original's are computed
    once, for every forget row, so that there is no second network. At the original weights the loss is 2 log
    2 / beta, and its gradient that of gradient ascent; as beta -> 0 it stays so everywhere.

    Variants, for reproducing other codes alone: `batch_mean` (Unlearn-Smooth on WMDP) compares the mean
    log-likelihood per token of the whole batch, hence its betas of 0.01 to 0.05; `raw_logit` (MUSE's bench
    and its descendants) compares raw logits of every position and vocabulary entry, a known mistake. Paper:
    Zhang et al., COLM 2024 (2404.05868).
    """

    name: ClassVar[str] = "npo"
    paper: ClassVar[str] = "Zhang et al., Negative Preference Optimization, COLM 2024 (2404.05868)"

    class Options(LanguageOptions):
        """NPO's options; the defaults are the paper's."""

        beta: float = Field(default=0.1, gt=0, description="how soon a forgotten answer stops being pushed")
        variant: Literal["sequence", "batch_mean", "raw_logit"] = Field(
            default="sequence",
            description="what is compared with the original; anything else is for reproduction",
        )

    options: Options

    @torch.no_grad()
    def setup(self, model: LanguageBackend, data: LanguageData, weights: Weights, seed: int) -> None:
        """Compute the original's log-likelihood of every forget row, shape (rows,)."""
        super().setup(model, data, weights, seed)
        found = []
        with weights.originals():
            for rows in torch.arange(len(data.forget)).split(_REFERENCE_BATCH):
                batch = data.forget.rows.index(rows)
                found.append(model.log_likelihood(model.predict(batch), batch))
        self.reference = torch.cat(found)

    def draw(self, step: int, rng: torch.Generator, batch: int) -> Draw:
        """GradDiff's rows, with the original's word on the forget rows."""
        draw = super().draw(step, rng, batch)
        draw["reference"] = self.reference[draw["picked"].to(self.reference.device)]
        if self.options.variant == "raw_logit":
            draw["reference_logits"] = self.teacher(draw["forget"])
        return draw

    def forget_loss(self, draw: Draw) -> Tensor:
        """The preference loss in the option's variant."""
        batch = draw["forget"]
        logits = self.model.predict(batch)
        if self.options.variant == "raw_logit":
            return preference_loss(logits.float() - draw["reference_logits"].float(), self.options.beta)
        ratio = self.model.log_likelihood(logits, batch) - draw["reference"]
        if self.options.variant == "batch_mean":
            ratio = ratio.sum() / batch.counts().sum().to(ratio.device)
        return preference_loss(ratio, self.options.beta)


def preference_loss(log_ratio: Tensor, beta: float) -> Tensor:
    """-(2 / beta) mean log sigmoid(-beta * log_ratio), where log_ratio is log p_model - log p_original."""
    return -(2.0 / beta) * F.logsigmoid(-beta * log_ratio).mean()
