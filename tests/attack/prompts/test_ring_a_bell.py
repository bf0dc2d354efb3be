"""Ring-A-Bell: the concept's direction by hand, the genetic search against brute force."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor

import tiny
from oubliette.attack.prompts import Case, Found, build
from oubliette.attack.prompts.ring_a_bell import concept_vector, evolve
from oubliette.attack.prompts.tokens import Vocabulary
from oubliette.attack.types import Sampling
from oubliette.backends.diffusion import DiffusionBackend
from oubliette.core.errors import UserError
from oubliette.data.concept import Concept
from oubliette.data.prompts import load_bank

CAR = Concept("car", "object")
CASES = [Case("a red car", 1), Case("a photo of a car by a house", 2)]
HOW = Sampling(steps=1, guidance=1.0)
SMALL = {"tokens": 3, "population": 12, "generations": 5, "pairs": 4}


def never(pictures: np.ndarray) -> np.ndarray:
    return np.zeros(len(pictures), dtype=bool)


@pytest.fixture(scope="module")
def model() -> DiffusionBackend:
    return DiffusionBackend.from_pipeline(tiny.pipeline(seed=1))


def test_the_concepts_direction_by_hand(model: DiffusionBackend) -> None:
    pairs = load_bank("general").pairs(CAR, 5, 7)
    total = torch.zeros(16, 32)
    for target, anchor in pairs:
        assert "car" in target
        assert "car" not in anchor.split()
        total += model.encode_text([target]).hidden[0] - model.encode_text([anchor]).hidden[0]
    torch.testing.assert_close(concept_vector(model, CAR, 5, "general", 7), total / 5)


def test_one_token_is_the_best_there_is(model: DiffusionBackend) -> None:
    """With one place and enough generations nothing beats the answer of trying every token."""
    options = {"tokens": 1, "population": 60, "generations": 60, "pairs": 4, "mutation": 1.0, "strength": 2.0}
    (found,) = build("ring-a-bell", options).search(model, CAR, CASES[:1], never, sampling=HOW)
    words = Vocabulary(model.tokenizers)
    goal = model.encode_text([CASES[0].prompt]).hidden[0] + 2.0 * concept_vector(model, CAR, 4, "general", 0)
    distances = {
        text: float(((model.encode_text([text]).hidden[0] - goal) ** 2).sum())
        for text in (words.write([token]) for token in words.ids.tolist())
    }
    best = min(distances, key=lambda text: distances[text])
    assert found.prompt == best
    assert found.loss == pytest.approx(distances[best], rel=1e-4)


def test_the_search_finds_a_planted_row_and_never_loses_the_best() -> None:
    words = Vocabulary([tiny.tokenizer()])
    rng = torch.Generator().manual_seed(0)
    planted = words.draw([4], rng)
    least: list[float] = []

    def distances(ids: Tensor) -> Tensor:
        wrong = (ids != planted).sum(dim=1).float()
        least.append(min([*least[-1:], float(wrong.min())]))
        return wrong

    rows, scores = evolve(
        words.draw((60, 4), rng), distances, words, rng, generations=400, crossover=0.5, mutation=0.5
    )
    assert rows.shape == (60, 4)
    assert scores.tolist() == sorted(scores.tolist())
    assert float(scores[0]) == least[-1] == 0
    assert torch.equal(rows[0], planted)
    assert set(rows.flatten().tolist()) <= set(words.ids.tolist())


def test_without_crossover_and_mutation_children_are_copies() -> None:
    words = Vocabulary([tiny.tokenizer()])
    rng = torch.Generator().manual_seed(0)
    start = words.draw((10, 3), rng)
    rows, _ = evolve(
        start, lambda ids: ids.sum(dim=1).float(), words, rng, generations=3, crossover=0, mutation=0
    )
    assert {tuple(row) for row in rows.tolist()} <= {tuple(row) for row in start.tolist()}


def test_a_crossed_child_begins_as_one_parent_and_ends_as_another() -> None:
    words = Vocabulary([tiny.tokenizer()])
    rng = torch.Generator().manual_seed(1)
    low, high = words.ids[0].expand(1, 4), words.ids[1].expand(1, 4)
    start = torch.cat([low, high, low, high])
    seen: list[Tensor] = []

    def distances(ids: Tensor) -> Tensor:
        seen.append(ids)
        return torch.zeros(len(ids))

    evolve(start, distances, words, rng, generations=40, crossover=1.0, mutation=0.0)
    for row in torch.cat(seen).tolist():
        assert sum(left != right for left, right in pairwise(row)) <= 1


def test_the_denoiser_is_never_asked_by_the_search(model: DiffusionBackend) -> None:
    calls: list[int] = []
    handle = model.pipe.unet.register_forward_hook(lambda *_: calls.append(1))
    try:
        found = build("ring-a-bell", SMALL).search(model, CAR, CASES, never, sampling=HOW)
    finally:
        handle.remove()
    # The originals in one batch, and both prompts that were found in another: one step each.
    assert len(calls) == 2
    assert [row.tries for row in found] == [1, 1]


def test_the_base_is_read_where_there_is_one(model: DiffusionBackend) -> None:
    """An erased text encoder does not mislead the search: it reads as the original does."""
    changed = DiffusionBackend.from_pipeline(tiny.pipeline(seed=5))
    own = build("ring-a-bell", SMALL).search(model, CAR, CASES, never, sampling=HOW)
    assert build("ring-a-bell", SMALL).search(changed, CAR, CASES, never, base=model, sampling=HOW) == own
    assert build("ring-a-bell", SMALL).search(changed, CAR, CASES, never, sampling=HOW) != own


def test_the_seed_decides_and_the_best_few_are_tried(model: DiffusionBackend) -> None:
    def search(seed: int, **options: int) -> list[Found]:
        attack = build("ring-a-bell", {**SMALL, **options})
        found: list[Found] = attack.search(model, CAR, CASES, never, sampling=HOW, seed=seed)
        return found

    assert search(1) == search(1)
    assert search(1) != search(2)
    once, thrice = search(1, population=40), search(1, population=40, tries=3)
    assert [row.tries for row in thrice] == [3, 3]
    assert (thrice[0].loss or 0) >= (once[0].loss or 0)


def test_more_tokens_than_fit_are_refused(model: DiffusionBackend) -> None:
    with pytest.raises(UserError, match=r"1\.\.14"):
        build("ring-a-bell").search(model, CAR, CASES, never, sampling=HOW)
