"""A tiny random model and its twin of other weights."""

from __future__ import annotations

from typing import Any

import pytest

import tiny_language
from oubliette.backends.language import LanguageBackend


def made(seed: int) -> Any:
    words = tiny_language.tokenizer()
    return LanguageBackend(tiny_language.model("llama", len(words), seed), words, source=f"tiny-{seed}")


@pytest.fixture(scope="session")
def tiny_one() -> Any:
    return made(0)


@pytest.fixture(scope="session")
def tiny_two() -> Any:
    return made(1)
