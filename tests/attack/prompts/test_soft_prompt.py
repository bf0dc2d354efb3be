"""A soft prompt lowers the loss of its rows, is read as it was trained, and moves no weight."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from attack.speaker import DOOR, FORGET, HOW, examples, never, tiny
from oubliette.attack.prompts import Case, build
from oubliette.attack.prompts.target import Proposal, Target
from oubliette.core.errors import UserError
from oubliette.train.cost import Cost

CASES = [Case("Who painted it?", 0), Case("Where was it?", 0)]
SMALL = {"tokens": 4, "steps": 30, "looks": 3, "learning_rate": 0.1}


def search(model: Any, hits: Any = never, *, seed: int = 0, **options: Any) -> list[Any]:
    attack = build("soft-prompt", {**SMALL, **options})
    return attack.search(model, DOOR, CASES, hits, sampling=HOW, seed=seed, examples=examples)


def loss(model: Any, front: torch.Tensor) -> float:
    """The mean over rows of a row's mean negative log-likelihood a token, row by row through transformers."""
    found = []
    for row in FORGET:
        batch = model.encode([row])
        words = torch.cat([front, model.embed(batch)[0]])[None]
        with torch.no_grad():
            said = model.model(inputs_embeds=words).logits[0].log_softmax(dim=-1)
        ids, first = batch.input_ids[0], int((batch.labels[0] != -100).int().argmax())
        own = [said[len(front) + n - 1, ids[n]] for n in range(first, len(ids))]
        found.append(-float(torch.stack(own).mean()))
    return sum(found) / len(found)


def fronts(model: Any, monkeypatch: pytest.MonkeyPatch, **more: Any) -> list[tuple[torch.Tensor, float]]:
    """The embeddings and the loss of each look."""
    seen: list[tuple[torch.Tensor, float]] = []
    own = Target.look

    def look(self: Target, proposals: Any, originals: Any, seeds: Any) -> Any:
        if proposals and proposals[0].front is not None:
            assert all(one.front is proposals[0].front for one in proposals)
            assert [one.prompt for one in proposals] == list(originals)
            seen.append((proposals[0].front, proposals[0].loss))
        return own(self, proposals, originals, seeds)

    monkeypatch.setattr(Target, "look", look)
    search(model, **more)
    return seen


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_it_lowers_the_loss_and_leaves_every_weight_bit_for_bit(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny(kind)
    before = {name: weight.detach().clone() for name, weight in model.tensors().items()}
    one = fronts(model, monkeypatch, steps=1, looks=1)
    start = one[0][1]
    seen = fronts(model, monkeypatch)
    assert len(seen) == 3
    ends = [loss(model, front) for front, _ in seen]
    assert start > ends[0] > ends[-1]
    assert all(torch.equal(weight, before[name]) for name, weight in model.tensors().items())
    assert not any(weight.requires_grad for weight in model.tensors().values())
    # The loss of an update is that of the embeddings before it, here of the whole set.
    assert fronts(model, monkeypatch, steps=2, looks=2)[1][1] == pytest.approx(
        loss(model, one[0][0]), abs=1e-5
    )


def test_the_same_seed_gives_the_same_embeddings(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny()
    first, again = (fronts(model, monkeypatch, steps=3)[-1][0] for _ in range(2))
    assert torch.equal(first, again)
    assert not torch.equal(first, fronts(model, monkeypatch, steps=3, seed=1)[-1][0])


def test_a_success_is_what_the_model_says_behind_the_embeddings() -> None:
    model = tiny()
    said: list[str] = []

    def hits(samples: np.ndarray) -> np.ndarray:
        said.extend(one.text for one in samples)
        return never(samples)

    front = torch.randn(4, 32, generator=torch.Generator().manual_seed(0))
    target = Target(model, hits, HOW)
    prompts = [case.prompt for case in CASES]
    _, samples = target.look([Proposal(text, front=front) for text in prompts], prompts, [0, 0])
    assert [one.text for one in samples] == [text.strip() for text in model.respond(prompts, 4, front=front)]
    assert said == [one.text for one in samples]


def test_embeddings_that_leave_no_room_are_refused() -> None:
    with pytest.raises(UserError, match=r"60 embeddings before a row of .* reads \(64\)"):
        search(tiny(), tokens=60)


def test_costs_are_those_of_its_updates() -> None:
    attack = build("soft-prompt", {"steps": 7, "batch": 3, "examples": 2, "looks": 2})
    assert attack.cost(2, HOW) == Cost(2 * 3 * 4 + 7 * 2, 7 * 2, 2 * 3)
