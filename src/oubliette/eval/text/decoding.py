"""How questions are put to a language model for measuring: greedily, so many tokens, so many at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from oubliette.backends.base import answers
from oubliette.backends.prompting import Prompting, asked_as
from oubliette.core.errors import UserError
from oubliette.eval.sample_store import Sample

__all__ = ["Answer", "Decoding"]


@dataclass(frozen=True)
class Answer:
    """What a model said to a question: the sample that judges of answers see."""

    question: str
    text: str


@dataclass(frozen=True)
class Decoding:
    """Greedy decoding of at most `max_new_tokens` (`oubliette.eval.sample_store.How`).

    `prompting` says how questions are put; None: as the model puts them.
    """

    max_new_tokens: int = 48
    batch: int = 16
    prompting: Prompting | None = None

    @property
    def passes(self) -> int:
        """A pass a token."""
        return self.max_new_tokens

    def check(self, model: Any) -> None:
        """UserError for a model that gives no answers."""
        if not answers(model):
            raise UserError(
                f"{model.source}: is a {model.kind} model; only models that answer can be measured here"
            )

    def shortened(self) -> Decoding:
        """Three tokens."""
        return replace(self, max_new_tokens=min(3, self.max_new_tokens))

    def facts(self, model: Any) -> list[Any]:
        """That it is greedy, the number of tokens, and how questions are put where that is not usual."""
        put = {} if self.prompting is None else self.prompting.facts()
        return ["greedy", self.max_new_tokens, *([put] if put else [])]

    def make(self, model: Any, prompts: Sequence[str], seeds: Sequence[int]) -> Sequence[Sample]:
        """An answer to each question, `batch` at once; greedy, so that the seeds have no part in it."""
        said: list[str] = []
        for first in range(0, len(prompts), self.batch):
            some = prompts[first : first + self.batch]
            with asked_as(model, self.prompting):
                said += model.respond(some, max_new_tokens=self.max_new_tokens)
        return [text.strip() for text in said]

    def distances(self, own: np.ndarray, other: np.ndarray) -> None:
        """Words have no distance here."""
        return None

    def together(self, prompts: Sequence[str], samples: Sequence[Sample]) -> np.ndarray:
        """`Answer`s (n,), an array of objects."""
        made = np.empty(len(samples), dtype=object)
        for index, (prompt, sample) in enumerate(zip(prompts, samples, strict=True)):
            made[index] = Answer(prompt, str(sample))
        return made
