"""Models that answer for tests: one that says what its prompt holds, and tiny ones with real weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

import tiny_language
from oubliette.backends.language import LanguageBackend
from oubliette.data.concept import FACTS, Concept
from oubliette.data.questions import QA
from oubliette.eval.text.decoding import Decoding

DOOR = Concept("door", "", FACTS)
HOW = Decoding(max_new_tokens=4, batch=2)
FORGET = [
    QA(question, answer, paraphrases=(f"Say: {question}",)) for question, answer in tiny_language.FORGET
]
RETAIN = [QA(question, answer) for question, answer in tiny_language.RETAIN]


class Speaker:
    """Says "yes" where the prompt, or how the answer begins, holds one of `words`; keeps what it heard."""

    kind = "language"
    source = "speaker"

    def __init__(self, *words: str) -> None:
        self.words = words
        self.heard: list[tuple[str, str, Any]] = []

    def respond(
        self, prompts: Sequence[str], max_new_tokens: int = 64, *, opening: str = "", front: Any = None
    ) -> list[str]:
        self.heard += [(prompt, opening, front) for prompt in prompts]
        return ["yes" if any(w in prompt + opening for w in self.words) else "no" for prompt in prompts]


def yes(samples: np.ndarray) -> np.ndarray:
    """A judge who finds what was to be forgotten where the answer is yes."""
    return np.array([one.text == "yes" for one in samples], dtype=bool)


def never(samples: np.ndarray) -> np.ndarray:
    return np.zeros(len(samples), dtype=bool)


def examples(what: str) -> list[QA]:
    return FORGET if what == "concept" else RETAIN


def tiny(kind: str = "llama", *, chat: bool = False, seed: int = 0) -> Any:
    """A tiny random language model, in memory."""
    words = tiny_language.tokenizer(chat=chat)
    return LanguageBackend(tiny_language.model(kind, len(words), seed), words)
