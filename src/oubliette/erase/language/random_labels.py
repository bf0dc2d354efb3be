"""Random labels: on the forget set the model is trained on tokens drawn at random."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from oubliette.backends.tokens import IGNORED
from oubliette.erase.language.graddiff import GradDiff, LanguageOptions
from oubliette.train.roles import Draw

__all__ = ["RandomLabels"]


class RandomLabels(GradDiff):
    """Minimise -log p(u) of tokens u in the places of the forget answers' own, + the retain loss.

    Every counted position (all of a plain text's) gets a token drawn uniformly from the vocabulary, anew in
    each step; means per token, then over rows. Without a retain set it is FIT's loss for what weighs least.
    Paper: Xu et al. (FIT), 2026 (2601.21682); the idea is that of Graves et al., AAAI 2021 (2010.10981).
    """

    name: ClassVar[str] = "random-labels"
    paper: ClassVar[str] = "Xu et al., FIT to Forget, 2026 (2601.21682)"

    class Options(LanguageOptions):
        """Options of random labels."""

    def draw(self, step: int, rng: torch.Generator, batch: int) -> Draw:
        """GradDiff's rows, and labels (B, L) of random tokens where the forget rows' own count."""
        draw = super().draw(step, rng, batch)
        own = draw["forget"].labels
        drawn = torch.randint(self.model.reader.vocabulary, own.shape, generator=rng)
        draw["labels"] = torch.where(own == IGNORED, own, drawn)
        return draw

    def forget_loss(self, draw: Draw) -> Tensor:
        """The cross-entropy to the drawn tokens."""
        batch = draw["forget"]
        logits = self.model.predict(batch)[:, :-1].float()
        labels = draw["labels"][:, 1:].to(logits.device)
        each = F.cross_entropy(logits.transpose(1, 2), labels, ignore_index=IGNORED, reduction="none")
        return (each.sum(dim=1) / batch.counts().to(each.device)).mean()
