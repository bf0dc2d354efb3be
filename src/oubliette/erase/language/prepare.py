"""What the language erasers are given to work on: the forget and the retain set as tokens."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from oubliette.data.questions import read_questions
from oubliette.errors import UserError

if TYPE_CHECKING:
    from oubliette.backends.language import LanguageBackend, TokenBatch
    from oubliette.erase.request import ErasureRequest

__all__ = ["LanguageData", "TokenSet", "prepare"]


class TokenSet:
    """A set of rows, encoded once."""

    def __init__(self, rows: TokenBatch) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def pick(self, rng: torch.Generator, count: int) -> Tensor:
        """`count` row numbers at random, none twice while there are others: shape (count,) long."""
        rounds = -(-count // len(self))
        return torch.cat([torch.randperm(len(self), generator=rng) for _ in range(rounds)])[:count]

    def draw(self, rng: torch.Generator, count: int) -> TokenBatch:
        """`count` rows at random."""
        return self.rows.index(self.pick(rng, count))

    def loss(self, model: LanguageBackend, batch: TokenBatch) -> Tensor:
        """The mean over rows of a row's mean negative log-likelihood per counted token, a scalar in fp32."""
        likelihood = model.log_likelihood(model.predict(batch), batch)
        return -(likelihood / batch.counts().to(likelihood.device)).mean()


@dataclass(frozen=True)
class LanguageData:
    """The two sets of one erasure; without a retain set nothing is asked to stay."""

    forget: TokenSet
    retain: TokenSet | None


def prepare(
    model: LanguageBackend,
    request: ErasureRequest,
    *,
    seed: int,
    cache: Path | None = None,
    show_progress: bool = True,
) -> LanguageData:
    """Read and encode the request's JSONL files; UserError where there is no forget file.

    Nothing is made, so that seed, cache and progress have no part in it.
    """
    if request.forget is None:
        raise UserError(
            "nothing to forget: give a JSONL file of questions and answers (--forget forget.jsonl)"
        )
    retain = None if request.retain_file is None else _read(model, request.retain_file)
    return LanguageData(_read(model, request.forget), retain)


def _read(model: LanguageBackend, path: Path) -> TokenSet:
    rows = read_questions(path)
    try:
        return TokenSet(model.encode(rows))
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
