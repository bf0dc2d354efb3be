"""Ascent with a weight a token: WGA and SatImp, which push what is still likely and leave the rest."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field
from torch import Tensor

from oubliette.erase.language.graddiff import GradDiff, LanguageOptions
from oubliette.train.roles import Draw

if TYPE_CHECKING:
    from oubliette.erase.request import ErasureRequest

__all__ = ["WGA", "SatImp"]


class WGA(GradDiff):
    """Minimise mean_t p_t^beta log p_t over each forget answer's tokens, then over rows, + the retain loss.

    The weight p_t^beta has no gradient; beta 0 is GradDiff. Paper: Wang et al., ICLR 2025 (2502.19301).
    """

    name: ClassVar[str] = "wga"
    paper: ClassVar[str] = "Wang et al., Rethinking LLM Unlearning Objectives, ICLR 2025 (2502.19301)"

    class Options(LanguageOptions):
        """WGA's options."""

        beta: float = Field(default=1.0, ge=0, description="how much more a likely token is pushed")

    options: LanguageOptions

    def __init__(self, options: LanguageOptions, request: ErasureRequest) -> None:
        super().__init__(options, request)

    def weights_of(self, probability: Tensor) -> Tensor:
        """What each token's log-likelihood weighs, from its probability."""
        assert isinstance(self.options, WGA.Options)
        return probability**self.options.beta

    def forget_loss(self, draw: Draw) -> Tensor:
        """The weighted log-likelihood, to be brought down."""
        batch = draw["forget"]
        each = self.model.token_log_likelihood(self.model.predict(batch), batch)
        # What does not count has a log-likelihood of 0, whatever its weight.
        weighted = self.weights_of(each.detach().exp()) * each
        return (weighted.sum(dim=1) / batch.counts().to(each.device)).mean()


class SatImp(WGA):
    """The same with the weight p^b1 (1 - p)^b2: neither what is gone already nor what is surest is pushed.

    Paper: Yang et al., ICML 2025 (2505.11953), saturation and importance joined.
    """

    name: ClassVar[str] = "satimp"
    paper: ClassVar[str] = "Yang et al., Exploring Criteria of Loss Reweighting, ICML 2025 (2505.11953)"

    class Options(LanguageOptions):
        """SatImp's options; the defaults are the released README's."""

        beta1: float = Field(default=5.0, ge=0, description="saturation: how much a likely token weighs")
        beta2: float = Field(default=1.0, ge=0, description="importance: how much an unsure one does")

    def weights_of(self, probability: Tensor) -> Tensor:
        """p^b1 (1 - p)^b2."""
        assert isinstance(self.options, SatImp.Options)
        return probability**self.options.beta1 * (1 - probability) ** self.options.beta2
