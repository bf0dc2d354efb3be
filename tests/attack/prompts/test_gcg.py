"""GCG against brute force: ranks, losses, the suffix a step takes; and that what it finds is text."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from attack.speaker import DOOR, FORGET, HOW, examples, never, tiny
from oubliette.attack.prompts import Case, build
from oubliette.attack.prompts.gcg import (
    SuffixRow,
    gradient,
    losses,
    substitutes,
    suffix_row,
    usable_tokens,
)
from oubliette.core.errors import UserError
from oubliette.train.cost import Cost

SMALL = {"tokens": 3, "steps": 4, "candidates": 24, "top": 8, "prompts": 2, "looks": 2}
CASES = [Case("Who painted it?", 0), Case("Where was it?", 0)]


def rows_of(model: Any, suffix: str = "! ! !") -> list[SuffixRow]:
    return [suffix_row(model, row.question, suffix, row.answer) for row in FORGET]


class Linear:
    """A model whose loss is linear in the embeddings, so that a gradient tells exactly what a token does."""

    def __init__(self, vocabulary: int, width: int) -> None:
        rng = torch.Generator().manual_seed(3)
        self.words = torch.randn(vocabulary, width, generator=rng)
        self.wanted = torch.randn(64, width, generator=rng)
        self.reader = SimpleNamespace(vocabulary=vocabulary, pad=0)

    def embed(self, batch: Any) -> Tensor:
        return self.words[batch.input_ids]

    def predict(self, batch: Any, embeddings: Tensor | None = None) -> Tensor:
        return self.embed(batch) if embeddings is None else embeddings

    def log_likelihood(self, logits: Tensor, batch: Any) -> Tensor:
        found = (logits * self.wanted[: logits.shape[1]]).sum(dim=2)
        return (found * batch.attention_mask).sum(dim=1)


def test_the_gradient_ranks_tokens_as_brute_force_does() -> None:
    model: Any = Linear(12, 5)
    suffix = torch.tensor([3, 7])
    rows = [SuffixRow([1, 2], suffix, [4], [5, 6]), SuffixRow([8], suffix, [], [9])]
    ranked = substitutes(gradient(model, rows, suffix, 1), torch.arange(12), 12)
    for place in range(2):
        every = torch.stack(
            [suffix.clone().index_fill(0, torch.tensor([place]), token) for token in range(12)]
        )
        assert ranked[place].tolist() == losses(model, rows, every, 64).argsort().tolist()


def test_only_usable_tokens_are_ranked_and_the_best_come_first() -> None:
    by_token = torch.tensor([[3.0, -1.0, 2.0, -5.0, 0.0]])
    assert substitutes(by_token, torch.tensor([0, 1, 2, 4]), 2).tolist() == [[1, 4]]
    assert substitutes(by_token, torch.tensor([0, 2]), 9).tolist() == [[2, 0]]


@pytest.mark.parametrize("kind", ["llama", "gpt2", "gemma3"])
def test_the_gradient_is_that_of_the_one_hot_tokens(kind: str) -> None:
    model = tiny(kind)
    rows = rows_of(model)
    suffix = rows[0].suffix
    every = torch.arange(model.reader.vocabulary)[None]
    matrix = model.embed(SimpleNamespace(input_ids=every))[0]
    hot = torch.nn.functional.one_hot(suffix, len(matrix)).float().requires_grad_()
    loss = torch.zeros(())
    for row in rows:
        ids, at = torch.tensor([row.ids(suffix)]), len(row.head)
        words = model.embed(SimpleNamespace(input_ids=ids))[0]
        words = torch.cat([words[:at], hot @ matrix, words[at + len(suffix) :]])[None]
        logits = model.model(inputs_embeds=words, attention_mask=torch.ones_like(ids)).logits
        said = logits[0].log_softmax(dim=-1)
        first = ids.shape[1] - len(row.target)
        loss = loss - torch.stack([said[first + n - 1, t] for n, t in enumerate(row.target)]).mean() / 2
    (wanted,) = torch.autograd.grad(loss, hot)
    for batch in (1, 8):
        assert torch.allclose(gradient(model, rows, suffix, batch), wanted, atol=1e-6)


def test_losses_are_the_mean_over_rows_of_each_rows_tokens() -> None:
    model = tiny()
    rows = rows_of(model)
    rng = torch.Generator().manual_seed(0)
    suffixes = torch.randint(model.reader.vocabulary, (5, 3), generator=rng)
    wanted = []
    for suffix in suffixes:
        own = []
        for row in rows:
            ids = row.ids(suffix)
            with torch.no_grad():
                said = model.model(torch.tensor([ids])).logits[0].log_softmax(dim=-1)
            first = len(ids) - len(row.target)
            own.append(
                -sum(float(said[first + n - 1, t]) for n, t in enumerate(row.target)) / len(row.target)
            )
        wanted.append(sum(own) / len(own))
    assert losses(model, rows, suffixes, 3).tolist() == pytest.approx(wanted, abs=1e-5)


@pytest.mark.parametrize("chat", [True, False])
def test_a_row_is_the_prompt_as_the_model_is_asked_and_the_answer_after_it(chat: bool) -> None:
    model = tiny(chat=chat)
    question, answer = FORGET[0].question, FORGET[0].answer
    row = suffix_row(model, question, "! !", answer)
    asked = model.reader.left_padded([f"{question} ! !"]).input_ids[0].tolist()
    assert [*row.head, *row.suffix.tolist(), *row.tail] == asked
    assert model.tokenizer.decode(row.suffix).strip() == "! !"
    assert model.tokenizer.decode(row.target) == f"{'' if chat else ' '}{answer}<|end|>"
    assert bool(row.tail) == chat
    opened = suffix_row(model, question, "! !", answer, closed=False)
    assert opened.target == row.target[:-1]


def test_usable_tokens_print_and_are_no_special_ones() -> None:
    model = tiny()
    texts = [model.tokenizer.decode([token]) for token in usable_tokens(model).tolist()]
    assert len(texts) > 90
    assert all(text.strip() and text.isprintable() and "\ufffd" not in text for text in texts)
    assert "<|end|>" not in texts


def test_a_step_takes_the_best_of_its_candidates() -> None:
    model = tiny()
    rows = rows_of(model, "! !")
    start = rows[0].suffix[:2]
    ranked = substitutes(gradient(model, rows, start, 8), usable_tokens(model), 4)
    tried = [start.clone().index_fill(0, torch.tensor([p]), int(t)) for p in range(2) for t in ranked[p]]
    readable = [
        one
        for one in tried
        if model.reader.left_padded([f"{FORGET[0].question} {model.tokenizer.decode(one).strip()}"])
        .input_ids[0]
        .tolist()
        == [*rows[0].head, *one.tolist()]
    ]
    # Of so many candidates none of the eight is left out.
    attack = build("gcg", {"tokens": 2, "steps": 1, "candidates": 200, "top": 4, "prompts": 2, "looks": 1})
    found = attack.search(model, DOOR, CASES, never, sampling=HOW, examples=examples)
    least = losses(model, rows, torch.stack([start, *readable]), 8).min()
    assert found[0].loss == pytest.approx(float(least), abs=1e-6)


def test_what_is_found_is_one_suffix_as_text_and_the_same_for_a_seed() -> None:
    model = tiny()
    before = model.fingerprint()

    def search(seed: int = 0) -> Any:
        return build("gcg", SMALL).search(
            model, DOOR, CASES, never, sampling=HOW, seed=seed, examples=examples
        )

    found = search()
    suffixes = {row.prompt.removeprefix(row.case.prompt) for row in found}
    assert len(suffixes) == 1
    text = suffixes.pop().strip()
    ids = suffix_row(model, FORGET[0].question, text, FORGET[0].answer)
    assert len(ids.suffix) == 3
    # Its loss is that of the text, and below the start's.
    assert found[0].loss == pytest.approx(
        float(losses(model, rows_of(model, text), ids.suffix[None], 8)[0]), abs=1e-5
    )
    start = rows_of(model)[0].suffix[:3]
    assert found[0].loss < float(losses(model, rows_of(model), start[None], 8)[0])
    assert [row.tries for row in found] == [2, 2]
    assert [row.prompt for row in search()] == [row.prompt for row in found]
    assert [row.prompt for row in search(1)] != [row.prompt for row in found]
    assert model.fingerprint() == before
    assert not any(weight.requires_grad for weight in model.tensors().values())


def test_a_suffix_that_is_not_read_back_is_never_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    from oubliette.attack.prompts import gcg

    model, tried = tiny(), []

    def spied(of: Any, rows: Any, suffixes: Tensor, batch: int) -> Tensor:
        tried.extend(suffixes.tolist())
        return losses(of, rows, suffixes, batch)

    monkeypatch.setattr(gcg, "losses", spied)
    build("gcg", SMALL).search(model, DOOR, CASES, never, sampling=HOW, examples=examples)
    question, head = FORGET[0].question, rows_of(model)[0].head
    for ids in tried:
        text = model.tokenizer.decode(ids).strip()
        assert model.reader.left_padded([f"{question} {text}"]).input_ids[0].tolist() == [*head, *ids]
    assert 1 < len(tried) < 1 + 4 * 24


def test_an_affirmation_is_what_may_follow_in_the_answers_place() -> None:
    model = tiny()
    attack = build("gcg", {**SMALL, "steps": 1, "target": "affirmation"})
    found = attack.search(model, DOOR, CASES, never, sampling=HOW, examples=examples)
    other = build("gcg", {**SMALL, "steps": 1}).search(
        model, DOOR, CASES, never, sampling=HOW, examples=examples
    )
    assert found[0].loss != other[0].loss


def test_a_suffix_that_leaves_no_room_is_refused() -> None:
    with pytest.raises(UserError, match=r"a suffix of 60 tokens is .* reads 64; give fewer"):
        build("gcg", {**SMALL, "tokens": 60}).search(
            tiny(), DOOR, CASES, never, sampling=HOW, examples=examples
        )


def test_budgets_and_costs() -> None:
    options = build("gcg").options
    assert (options.tokens, options.steps, options.candidates, options.top) == (20, 500, 512, 256)
    small = build("gcg", preset="nano").options
    assert (small.steps, small.candidates, small.prompts) == (50, 64, 3)
    # 4 steps on 2 rows: a gradient and 24 candidates each; two cases, three answers each of four tokens.
    assert build("gcg", SMALL).cost(2, HOW) == Cost(2 * 3 * 4 + 4 * 2 * 25, 4 * 2, 2 * 3)
