"""What an erasure did to a model's answers: how likely it finds them, and what it says, before and after."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from oubliette.core.numbers import percent

if TYPE_CHECKING:
    from oubliette.data.questions import QA

__all__ = ["Answered", "Answers", "Likelihood", "Said", "answered"]

_BATCH = 8
_SHOWN = 3
_LONGEST = 64  # tokens of an answer that is shown


@runtime_checkable
class Answers(Protocol):
    """A model that answers: what is asked of one whose answers can be checked."""

    def encode(self, pairs: Sequence[QA]) -> Any:
        """Questions and answers as a batch of tokens, with `index(rows)` and `counts()`."""
        ...

    def predict(self, batch: Any) -> Tensor:
        """Next-token logits (B, L, V)."""
        ...

    def log_likelihood(self, logits: Tensor, batch: Any) -> Tensor:
        """The log-likelihood of each row's answer, (B,)."""
        ...

    def respond(self, prompts: Sequence[str], max_new_tokens: int = 64) -> list[str]:
        """The greedy continuation of each prompt."""
        ...


@dataclass(frozen=True)
class Likelihood:
    """A set's log-probability a token of its answers, the mean over rows of a row's mean, before and after.

    `rows` of the set's `of` were looked at. None where it is not finite.
    """

    name: str
    rows: int
    of: int
    before: float | None
    after: float | None

    def __str__(self) -> str:
        some = "" if self.rows == self.of else f" ({self.rows} of {self.of} rows)"
        return f"{self.name}: {_shown(self.before)} before, {_shown(self.after)} after{some}"


@dataclass(frozen=True)
class Said:
    """A question of the forget set, its answer, and what the model says to it before and after."""

    question: str
    answer: str
    before: str
    after: str


@dataclass(frozen=True)
class Answered:
    """Each set's likelihood, and the answers to a few questions of the first one."""

    sets: tuple[Likelihood, ...]
    said: tuple[Said, ...]

    def facts(self) -> dict[str, Any]:
        """Plain data: `likelihood` by set, `answers` as they were given."""
        return {
            "likelihood": {
                one.name: {key: value for key, value in asdict(one).items() if key != "name"}
                for one in self.sets
            },
            "answers": [asdict(one) for one in self.said],
        }

    def lines(self) -> list[str]:
        """The same in words, a line each."""
        lines = ["log-probability a token of the answers", *(f"  {one}" for one in self.sets), "answers"]
        for one in self.said:
            lines.append(f"  {one.question!r} ({one.answer!r}): {one.before!r} before, {one.after!r} after")
        return lines if self.said else lines[:-1]


@torch.no_grad()
def answered(
    model: Answers,
    originals: Callable[[], AbstractContextManager[None]],
    sets: Mapping[str, Sequence[QA]],
    *,
    limit: int | None = None,
) -> Answered:
    """Look at sets of questions and answers with the model as it is, and as it was inside `originals()`.

    Of each set, at most `limit` rows, evenly spaced. The first set's first three questions are answered
    greedily, with no more tokens than their answers have. Nothing is changed.
    """
    some = {name: _spaced(rows, limit) for name, rows in sets.items()}
    shown = [row for row in next(iter(sets.values()), ()) if not row.plain and not row.history][:_SHOWN]

    def look() -> tuple[dict[str, float | None], list[str]]:
        return {name: _mean(model, rows) for name, rows in some.items()}, [
            _answer(model, row) for row in shown
        ]

    with originals():
        before, said_before = look()
    after, said_after = look()
    return Answered(
        tuple(
            Likelihood(name, len(rows), len(sets[name]), before[name], after[name])
            for name, rows in some.items()
        ),
        tuple(
            Said(row.question, row.answer, then, now)
            for row, then, now in zip(shown, said_before, said_after, strict=True)
        ),
    )


def _mean(model: Answers, rows: Sequence[QA]) -> float | None:
    means = []
    for first in range(0, len(rows), _BATCH):
        batch = model.encode(rows[first : first + _BATCH])
        found = model.log_likelihood(model.predict(batch), batch)
        means.append((found / batch.counts().to(found.device)).double().cpu())
    value = float(torch.cat(means).mean())
    return value if math.isfinite(value) else None


def _answer(model: Answers, row: QA) -> str:
    tokens = int(model.encode([row]).counts()[0])
    return model.respond([row.question], max_new_tokens=min(tokens, _LONGEST))[0].strip()


def _spaced(rows: Sequence[QA], limit: int | None) -> list[QA]:
    if limit is None or len(rows) <= limit:
        return list(rows)
    return [rows[number * len(rows) // limit] for number in range(limit)]


def _shown(value: float | None) -> str:
    return "not finite" if value is None else f"{value:.3f} ({percent(math.exp(value), '.2f')})"
