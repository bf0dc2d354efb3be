"""A model as it is now, as metrics of answers ask it: between two steps of a training, under a prefix."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from oubliette.data.questions import QA

__all__ = ["Live"]

#: Questions asked at once.
_BATCH = 64
_TOKENS = 24


class Live:
    """What `oubliette.eval.text.subject.Subject` is, without a store: answers are those of this moment.

    `prefix` is what an answer is made to begin with.
    """

    def __init__(self, model: Any, sets: Mapping[str, Sequence[QA]], prefix: str = "") -> None:
        self.model, self.prefix = model, prefix
        self.rows = {
            name: [(str(place), row) for place, row in enumerate(rows)] for name, rows in sets.items()
        }

    def asked(self) -> AbstractContextManager[None]:
        """As the model puts questions itself."""
        return nullcontext()

    def scores(self, rows: Sequence[QA]) -> Any:
        """What the model says of each token of the rows' answers."""
        return self.model.scores(list(rows))

    def answers(self, questions: Sequence[str], tokens: int | None = None) -> list[str]:
        """The greedy answers, by like lengths."""
        order = sorted(range(len(questions)), key=lambda place: (len(questions[place]), place))
        found: dict[int, str] = {}
        for first in range(0, len(order), _BATCH):
            some = order[first : first + _BATCH]
            said = self.model.respond(
                [questions[place] for place in some], tokens or _TOKENS, opening=self.prefix
            )
            found |= zip(some, said, strict=True)
        return [found[place] for place in range(len(questions))]
