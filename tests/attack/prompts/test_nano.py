"""Every prompt attack on the real nano model, from search to table to replay, at the least budget."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from oubliette.attack import PROMPT_ATTACKS
from oubliette.attack.prompts import build, read_found, write_found
from oubliette.attack.prompts.cases import make_cases
from oubliette.attack.prompts.replay import replay
from oubliette.attack.prompts.tokens import Vocabulary
from oubliette.attack.types import Sampling
from oubliette.backends import open_model
from oubliette.data.concept import Concept
from oubliette.world.world import world_of

LEAST: dict[str, dict[str, Any]] = {
    "paraphrase": {"tries": 1},
    "random-tokens": {"tries": 1},
    "unlearndiffatk": {"timesteps": 1, "iterations": 2},
    "p4d": {"timesteps": 1, "iterations": 2},
    "ring-a-bell": {"population": 20, "generations": 5, "pairs": 4},
}
FISH = Concept("fish", "animal")
HOW = Sampling(steps=2, guidance=2.0)


def never(pictures: np.ndarray) -> np.ndarray:
    """A judge who finds nothing, so that every case is attacked to the end."""
    return np.zeros(len(pictures), dtype=bool)


@pytest.fixture(scope="module")
def model() -> Any:
    return open_model("nano", device="cpu")


@pytest.mark.parametrize("name", PROMPT_ATTACKS.names())
def test_search_table_and_replay_agree(name: str, model: Any, tmp_path: Path) -> None:
    cases = make_cases(FISH, 2, world=world_of(model))
    attack = build(name, LEAST[name], preset="nano")
    found = attack.search(model, FISH, cases, never, base=model, sampling=HOW)
    path = write_found(tmp_path / "found.csv", found, attack=name, concept=FISH.name)
    assert read_found(path) == found
    again = replay(model, path, never, sampling=HOW)
    assert [(row.prompt, row.before, row.after) for row in again] == [
        (row.prompt, row.before, row.after) for row in found
    ]
    words = Vocabulary(model.tokenizers)
    if name != "paraphrase":
        for row in found:
            ids = words.read(row.prompt)
            assert set(ids[: attack.options.tokens]) <= set(words.ids.tolist())
