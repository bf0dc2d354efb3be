"""Questions with answers as a next-token task: what a language model is fine-tuned on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from oubliette.core.errors import UserError

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

    def halves(self, seed: int) -> tuple[Answering, Answering]:
        """The rows dealt at random to two halves; UserError for a single row."""
        if len(self) < 2:
            raise UserError("one question cannot be dealt to two halves; give at least two")
        order = torch.randperm(len(self), generator=torch.Generator().manual_seed(seed))
        made = []
        for half in order.tensor_split(2):
            other = object.__new__(Answering)
            other._rows = self._rows.index(half)
            made.append(other)
        return made[0], made[1]

    def loss(self, model: LanguageBackend, batch: TokenBatch) -> Tensor:
        """The batch's loss, a scalar in fp32."""
        likelihood = model.log_likelihood(model.predict(batch), batch)
        return -(likelihood / batch.counts().to(likelihood.device)).mean()

    def log_likelihood(self, model: LanguageBackend, index: int) -> Tensor:
        """The sum over one row's counted tokens, for `oubliette.train.fisher.fisher_diag`."""
        batch = self._rows.index(torch.tensor([index]))
        return model.log_likelihood(model.predict(batch), batch)[0]
