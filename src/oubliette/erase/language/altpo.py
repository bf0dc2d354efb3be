"""AltPO: other answers, made up by the model itself, preferred to those that are to go."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

import torch
from pydantic import Field

from oubliette.core.errors import UserError
from oubliette.erase.language.graddiff import GradDiff
from oubliette.erase.language.refusals import DPO

if TYPE_CHECKING:
    from oubliette.backends.language import LanguageBackend, TokenBatch
    from oubliette.data.questions import QA
    from oubliette.erase.language.prepare import LanguageData
    from oubliette.train.weights import Weights

__all__ = ["AltPO"]

_BATCH = 16  # questions asked at once


class AltPO(DPO):
    """DPO with an alternative answer preferred to the true one, drawn for each forget row and step.

    Alternatives are `count` answers of the original model to each question, sampled at `temperature` (an
    answer that is the true one is left out, and a row that has no other is refused), or those of the file
    `alternatives`. Paper: Mekala et al., COLING 2025 (2409.13474).
    """

    name: ClassVar[str] = "altpo"
    paper: ClassVar[str] = "Mekala et al., Alternate Preference Optimization, COLING 2025 (2409.13474)"
    sources: ClassVar[dict[str, str]] = {
        "alternatives": "rows of forget questions with another answer; by default the model's own"
    }

    class Options(DPO.Options):
        """AltPO's options; the defaults are the paper's."""

        count: int = Field(default=5, ge=1, description="answers sampled for each question")
        temperature: float = Field(default=1.0, gt=0, description="at what temperature")
        tokens: int = Field(default=200, ge=1, description="tokens of an answer at most")

    options: Options

    def setup(self, model: LanguageBackend, data: LanguageData, weights: Weights, seed: int) -> None:
        """Sample the alternatives, or read them; every question must have one."""
        GradDiff.setup(self, model, data, weights, seed)
        plain = next((row for row in data.forget_rows if row.plain), None)
        if plain is not None:
            raise UserError(
                f"{plain.where or 'a row to forget'}: is plain text, and 'altpo' prefers another answer; "
                "give questions with answers"
            )
        given = data.sources.get("alternatives")
        found: dict[str, list[str]] = defaultdict(list)
        if given is not None:
            for row in given:
                found[row.question].append(row.answer)
        else:
            self._sample(data.forget_rows, found, seed)
        for row in data.forget_rows:
            others = [answer for answer in found[row.question] if answer.strip() != row.answer.strip()]
            found[row.question] = list(dict.fromkeys(others))
            if not others:
                where = "its file of alternatives has" if given is not None else "the model has"
                raise UserError(
                    f"{row.where or 'a row to forget'}: {where} no other answer than the true one; give "
                    "one in a file (--set sources.alternatives=FILE) or a higher method.temperature"
                )
        self.alternatives = dict(found)

    def _sample(self, rows: Sequence[QA], found: dict[str, list[str]], seed: int) -> None:
        questions = list(dict.fromkeys(row.question for row in rows))
        for number in range(self.options.count):
            for first in range(0, len(questions), _BATCH):
                some = questions[first : first + _BATCH]
                answers = self.model.respond(
                    some,
                    self.options.tokens,
                    temperature=self.options.temperature,
                    seed=(seed * self.options.count + number) * len(questions) + first,
                )
                for question, answer in zip(some, answers, strict=True):
                    if answer.strip():
                        found[question].append(answer.strip())

    def refused(self, rows: Sequence[QA], rng: torch.Generator) -> TokenBatch:
        """The rows with an alternative, drawn for each, in the place of the answer."""
        chosen = []
        for row in rows:
            others = self.alternatives[row.question]
            chosen.append(others[int(torch.randint(len(others), (1,), generator=rng))])
        return self.model.encode(
            [replace(row, answer=answer) for row, answer in zip(rows, chosen, strict=True)]
        )
