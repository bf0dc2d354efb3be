"""What the language erasers are given to work on: the forget and the retain set as tokens."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from oubliette.core.errors import UserError
from oubliette.data.questions import QA, read_questions
from oubliette.data.text import InputWarning
from oubliette.train.cost import Cost

if TYPE_CHECKING:
    from oubliette.backends.language import LanguageBackend, TokenBatch
    from oubliette.backends.tokens import TokenReader
    from oubliette.erase.request import ErasureRequest

__all__ = ["LanguageData", "TokenSet", "prepare"]

_MEASURED = 8  # rows a pass


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
    """The two sets of one erasure, as tokens and as rows; without a retain set nothing is asked to stay.

    `sources` are the rows of further files by name, for methods that read some. `seed` is the run's.
    """

    forget: TokenSet
    retain: TokenSet | None
    forget_rows: Sequence[QA] = ()
    retain_rows: Sequence[QA] = ()
    sources: Mapping[str, Sequence[QA]] = field(default_factory=dict)
    seed: int = 0

    def measured(self) -> Cost:
        """What `forget_loss` takes."""
        return Cost(forwards=len(self.forget))

    @torch.no_grad()
    def forget_loss(self, model: LanguageBackend) -> float:
        """The loss of the whole forget set at the weights as they stand: the mean over rows."""
        total = 0.0
        for places in torch.arange(len(self.forget)).split(_MEASURED):
            total += len(places) * float(self.forget.loss(model, self.forget.rows.index(places)))
        return total / len(self.forget)


def prepare(
    model: LanguageBackend,
    request: ErasureRequest,
    *,
    seed: int,
    cache: Path | None = None,
    show_progress: bool = True,
) -> LanguageData:
    """Read and encode the request's files; UserError where there is no forget file.

    Warns (InputWarning) of rows that stand in both sets, which are trained both ways; UserError where all of
    the forget set does. Nothing is made, so that cache and progress have no part in it.
    """
    forget = _rows(request, "forget", request.forget)
    retain = _rows(request, "retain", request.retain_file)
    if not forget:
        raise UserError(
            "nothing to forget: give a JSONL file of questions and answers (--forget forget.jsonl)"
        )
    _warn_of_both(request, forget, retain)
    return LanguageData(
        TokenSet(model.encode(forget)),
        _encoded(model.reader, tuple(retain)) if retain else None,
        forget,
        retain,
        {name: read_questions(path) for name, path in request.sources.items()},
        seed,
    )


@lru_cache(maxsize=2)
def _encoded(reader: TokenReader, rows: tuple[QA, ...]) -> TokenSet:
    """A retain set as tokens: one request after another keeps the same, and reading it anew would take longer
    than their steps.
    """
    return TokenSet(reader.encode(rows))


def _rows(request: ErasureRequest, name: str, path: Path | None) -> Sequence[QA]:
    if name in request.rows:
        return request.rows[name]
    return [] if path is None else read_questions(path)


def _warn_of_both(request: ErasureRequest, forget: Sequence[QA], retain: Sequence[QA]) -> None:
    kept = {_key(row): row for row in reversed(retain)}
    both = [row for row in forget if _key(row) in kept]
    if not both:
        return
    first = kept[_key(both[0])].where.rpartition(", ")[2]
    count = f"{len(both)} of the {len(forget)}"
    said = f"{request.retain_file}: {count} rows to forget stand here too, the first at {first}"
    if len(both) == len(forget):
        raise UserError(f"{said}: nothing would be forgotten; take them out")
    warnings.warn(f"{said}; they are trained both ways", InputWarning, stacklevel=3)


def _key(row: QA) -> tuple[str, ...]:
    """What makes two rows the same: their words, blanks aside."""
    said = (*(content for _, content in row.history), row.question, row.answer)
    return tuple(" ".join(text.split()) for text in said)
