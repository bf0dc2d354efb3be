"""The baseline: random, usable, before the prompt, as often as it says."""

from __future__ import annotations

from typing import Any

import tiny
from attack.prompts.fakes import Drawer, white
from oubliette.attack.prompts import Case, Found, build
from oubliette.attack.prompts.tokens import Vocabulary
from oubliette.data.concept import Concept

CAR = Concept("car", "object")
CASES = [Case("a car", 1), Case("a red car", 2)]


def search(seed: int = 0, **options: Any) -> tuple[list[Found], Drawer]:
    model: Any = Drawer()
    model.tokenizers = [tiny.tokenizer()]
    return build("random-tokens", options).search(model, CAR, CASES, white, seed=seed), model


def test_each_try_is_fresh_tokens_and_the_prompt() -> None:
    found, model = search(tokens=4, tries=6)
    words = Vocabulary(model.tokenizers)  # type: ignore[attr-defined]
    tried = [prompt for prompt, seed in model.drawn if seed == 2][1:]
    assert len(tried) == len(set(tried)) == 6
    for prompt in tried:
        ids = words.read(prompt)
        assert len(ids) == 4 + len(words.read("a red car"))
        assert prompt.endswith(" a red car")
        assert set(ids[:4]) <= set(words.ids.tolist())
    assert [row.tries for row in found] == [6, 6]
    assert found[1].prompt == tried[-1]


def test_the_seed_decides() -> None:
    assert search(1, tries=2)[0] == search(1, tries=2)[0]
    assert search(1, tries=2)[0] != search(2, tries=2)[0]


def test_excluded_tokens_are_not_drawn() -> None:
    vocabulary = Vocabulary([tiny.tokenizer()])
    others = [
        vocabulary.write([token]) for token in vocabulary.ids.tolist() if vocabulary.write([token]) != "dog"
    ]
    found, _ = search(tokens=2, tries=1, exclude=others)
    assert found[0].prompt == "dog dog a car"
