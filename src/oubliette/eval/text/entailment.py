"""Whether what a model says entails a right answer: a rule on strings, or a local model for inference."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from oubliette.core.errors import UserError
from oubliette.eval.text.answer_judge import holds

__all__ = ["CrossEncoder", "NLIJudge", "StringJudge", "open_nli"]

Case = tuple[str, str, Sequence[str]]
"""A question, what was said to it, and the right answers."""


class NLIJudge(Protocol):
    """Says of each answer whether it entails one of the right ones; `name` tells a reader which it was."""

    name: str

    def entails(self, cases: Sequence[Case]) -> np.ndarray:
        """Booleans (n,); each case is judged by itself."""
        ...


class StringJudge:
    """The rule that leakage is taken by (`answer_judge.holds`): deterministic, knows no synonyms."""

    name = "strings"

    def entails(self, cases: Sequence[Case]) -> np.ndarray:
        """Whether one of the right answers stands in what was said."""
        return np.array([holds(said, right) for _, said, right in cases], dtype=bool)


class CrossEncoder:
    """A sequence classifier of transformers for natural language inference, in a local folder.

    The premise is question and answer as they were said, the hypothesis question and right answer; an answer
    entails where the label whose name begins with "entail" is the likeliest. UserError for a folder that
    holds none, or whose labels name none so.
    """

    def __init__(self, folder: Path | str, *, batch: int = 16, device: torch.device | str = "cpu") -> None:
        from transformers import AutoModelForSequenceClassification, AutoTokenizer

        folder = Path(folder)
        if not (folder / "config.json").is_file():
            raise UserError(f"entailment: {folder} holds no config.json, so no model that could judge")
        try:
            model = AutoModelForSequenceClassification.from_pretrained(
                str(folder), use_safetensors=True, trust_remote_code=False
            )
            self._tokenizer = AutoTokenizer.from_pretrained(str(folder), trust_remote_code=False)
        except Exception as error:  # whatever a library makes of files it cannot read
            said = " ".join(str(error).split())[:200]
            raise UserError(
                f"entailment: {folder} cannot be opened as a sequence classifier ({said})"
            ) from error
        labels = {str(name).lower(): int(index) for index, name in model.config.id2label.items()}
        entailing = [index for name, index in labels.items() if name.startswith("entail")]
        if len(entailing) != 1:
            raise UserError(
                f"entailment: {folder} has the labels {', '.join(labels)}; expected one that is called "
                "'entailment'"
            )
        self._model: Any = model.eval().requires_grad_(False).to(device)
        self._entailing, self._batch = entailing[0], batch
        self.name = folder.name

    @torch.no_grad()
    def entails(self, cases: Sequence[Case]) -> np.ndarray:
        """Whether the classifier finds one of the right answers entailed; nothing said entails nothing."""
        asked = [
            (index, f"{question} {said}", f"{question} {answer}")
            for index, (question, said, right) in enumerate(cases)
            if said.strip()
            for answer in right
        ]
        found = np.zeros(len(cases), dtype=bool)
        for first in range(0, len(asked), self._batch):
            some = asked[first : first + self._batch]
            tokens = self._tokenizer(
                [premise for _, premise, _ in some],
                [hypothesis for _, _, hypothesis in some],
                padding=True,
                truncation=True,
                return_tensors="pt",
            ).to(self._model.device)
            best = self._model(**tokens).logits.argmax(dim=-1).cpu().numpy()
            for (index, _, _), label in zip(some, best, strict=True):
                found[index] |= label == self._entailing
        return found


def open_nli(folder: str | None) -> NLIJudge:
    """The judge in a folder, or that of strings."""
    return StringJudge() if folder is None else CrossEncoder(folder)
