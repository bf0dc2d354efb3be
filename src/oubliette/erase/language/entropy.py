"""ME: on the forget set the model is brought to say every token as likely as any other."""

from __future__ import annotations

import math
from typing import ClassVar

from torch import Tensor
from torch.nn import functional as F

from oubliette.erase.language.graddiff import GradDiff, LanguageOptions
from oubliette.train.roles import Draw

__all__ = ["MaximumEntropy"]


class MaximumEntropy(GradDiff):
    """Minimise KL(uniform || p) on every position of the forget rows, prompts too, + the retain loss.

    Paper: Yuan et al., ICLR 2025 (2410.08109), ME+GD; the paper's forget weight is 0.1.
    """

    name: ClassVar[str] = "me"
    paper: ClassVar[str] = "Yuan et al., A Closer Look at Machine Unlearning for LLMs, ICLR 2025 (2410.08109)"

    class Options(LanguageOptions):
        """ME's options."""

        forget_weight: float = 0.1

    def forget_loss(self, draw: Draw) -> Tensor:
        """KL to the uniform distribution a position, the mean over a row's own, then over rows."""
        batch = draw["forget"]
        logits = self.model.predict(batch)[:, :-1].float()
        there = batch.attention_mask[:, 1:].to(logits.device)
        size = logits.shape[-1]
        # KL(u || p) = -log V - (1 / V) sum_v log p_v
        each = -F.log_softmax(logits, dim=-1).mean(dim=-1) - math.log(size)
        return ((each * there).sum(dim=1) / there.sum(dim=1)).mean()
