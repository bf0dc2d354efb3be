"""SimNPO: NPO without a reference, on the mean over an answer's tokens."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from oubliette.erase.language.graddiff import GradDiff, LanguageOptions
from oubliette.train.roles import Draw

__all__ = ["SimNPO"]


class SimNPO(GradDiff):
    """Minimise -(2 / beta) mean_i log sigmoid(-(beta / |y_i|) log p(y_i) - margin) + the retain loss.

    No reference: short answers are not favoured, and there is no second pass. Paper: Fan et al., NeurIPS 2025
    (2410.07163), eq. 4.
    """

    name: ClassVar[str] = "simnpo"
    paper: ClassVar[str] = "Fan et al., Simplicity Prevails: SimNPO, 2024 (2410.07163)"

    class Options(LanguageOptions):
        """SimNPO's options; the defaults are the paper's for TOFU's forget10."""

        beta: float = Field(default=4.5, gt=0, description="how soon a forgotten answer stops being pushed")
        margin: float = Field(default=0.0, description="gamma, how far below even odds it is pushed")

    options: Options

    def forget_loss(self, draw: Draw) -> Tensor:
        """The preference loss on mean log-likelihoods per token."""
        batch, beta = draw["forget"], self.options.beta
        likelihood = self.model.log_likelihood(self.model.predict(batch), batch)
        mean = likelihood / batch.counts().to(likelihood.device)
        return -(2.0 / beta) * F.logsigmoid(-beta * mean - self.options.margin).mean()
