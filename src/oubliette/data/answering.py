"""Questions with answers as a next-token task: what a language model is fine-tuned on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from oubliette.errors import UserError

if TYPE_CHECKING:
    from oubliette.backends.language import LanguageBackend, TokenBatch
    from oubliette.data.questions import QA

__all__ = ["Answering"]


class Answering:
    """Questions and answers, encoded once; an `oubliette.train.finetune.SupervisedData` for language models.

    The loss is the mean over rows of a row's mean negative log-likelihood per counted token (the answer's, or
    all of a plain text's). UserError for no rows.
    """

    def __init__(self, model: LanguageBackend, rows: Sequence[QA]) -> None:
        if not rows:
            raise UserError("no questions to train on; give at least one")
        self._rows = model.encode(rows)

    def __len__(self) -> int:
        return len(self._rows)

    def draw(self, rng: torch.Generator, count: int) -> TokenBatch:
        """`count` rows, none twice while there are others."""
        rounds = -(-count // len(self))
        order = torch.cat([torch.randperm(len(self), generator=rng) for _ in range(rounds)])
        return self._rows.index(order[:count])

    def loss(self, model: LanguageBackend, batch: TokenBatch) -> Tensor:
        """The batch's loss, a scalar in fp32."""
        likelihood = model.log_likelihood(model.predict(batch), batch)
        return -(likelihood / batch.counts().to(likelihood.device)).mean()
