"""ELM against its equations: targets and texts made one row and one token at a time."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import tiny_language
from oubliette.backends.language import LanguageBackend
from oubliette.core.errors import UserError
from oubliette.erase.language.elm import ELM
from oubliette.erase.language.prepare import prepare
from oubliette.erase.request import ErasureRequest
from oubliette.train.scope import select
from oubliette.train.weights import Weights

SHORT: dict[str, Any] = {
    "expert": "Sure.",
    "novice": "Unsure now.",
    "turn": "So.",
    "texts": 2,
    "length": 4,
    "eta": 5.0,
    "top": 7,
}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("elm")
    for kind in ("llama", "gpt2"):
        tiny_language.save(root / kind, kind)
    tiny_language.write_rows(root / "forget.jsonl", tiny_language.FORGET)
    tiny_language.write_rows(root / "retain.jsonl", tiny_language.RETAIN)
    plain = [{"text": "Ada Marlow painted the red door."}, {"text": "She was born in the town of Quill."}]
    (root / "plain.jsonl").write_text("".join(json.dumps(row) + "\n" for row in plain), encoding="utf-8")
    return root


def setting(
    root: Path, kind: str = "llama", *, rows: str = "forget", bos: bool = False, **options: Any
) -> Any:
    """ELM set up on a model that has moved away from its original, and a draw of both forget rows."""
    model = LanguageBackend.open(root / kind, device="cpu")
    if bos:
        model.tokenizer.bos_token = "<|end|>"
        from tokenizers.processors import TemplateProcessing

        model.tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
            single="<|end|> $A", special_tokens=[("<|end|>", 0)]
        )
    request = ErasureRequest(forget=root / f"{rows}.jsonl", retain_file=root / "retain.jsonl")
    objective = ELM(ELM.Options(**{**SHORT, **options}), request)
    weights = Weights(select(model, "full"))
    objective.setup(model, prepare(model, request, seed=0), weights, 0)
    rng = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in weights.parameters:
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=rng))
    for parameter in weights.parameters:
        parameter.requires_grad_(True)
    return model, objective, weights, objective.draw(0, torch.Generator().manual_seed(1), 2)


def after(model: Any, ids: list[int]) -> torch.Tensor:
    """The logits (V,) of what follows these tokens, alone and unpadded."""
    return model.model(input_ids=torch.tensor([ids])).logits[0, -1].detach()


def logs(model: Any, ids: list[int], temperature: float = 1.2) -> torch.Tensor:
    return (after(model, ids) / temperature).log_softmax(dim=-1)


def ids_of(model: Any, text: str) -> list[int]:
    return list(model.tokenizer(text)["input_ids"])


def contexts(
    model: Any, rows: str, question: str, answer: str, bos: bool
) -> tuple[dict[str, list[int]], list[int]]:
    """What stands before the first counted token, plain and under each sentence; and the counted tokens."""
    end = [model.reader.end]
    if rows == "plain":
        own = ids_of(model, answer) + end
        head = own[:1]
        # A start token stands at the front alone; a text's own first token stays, and is not predicted.
        tail = [] if bos else head
        said = {who: ids_of(model, SHORT[who]) + tail for who in ("expert", "novice")}
        return {"plain": head, **said}, own[1:]
    full = ids_of(model, f"{question} {answer}") + end
    head = ids_of(model, question)
    assert full[: len(head)] == head
    said = {who: ids_of(model, f"{SHORT[who]} {question}") for who in ("expert", "novice")}
    return {"plain": head, **said}, full[len(head) :]


@pytest.mark.parametrize(
    ("kind", "rows", "bos"),
    [
        ("llama", "forget", False),
        ("gpt2", "plain", False),
        ("llama", "plain", True),
        ("gpt2", "forget", True),
    ],
)
def test_the_forget_loss_is_the_cross_entropy_to_the_guided_original(
    root: Path, kind: str, rows: str, bos: bool
) -> None:
    model, objective, weights, draw = setting(root, kind, rows=rows, bos=bos)
    total = 0.0
    found = [(row.question, row.answer) for row in objective.data.forget_rows]
    for question, answer in found:
        heads, tokens = contexts(model, rows, question, answer, bos)
        each = []
        for at in range(len(tokens)):
            eta = 1.0 + (5.0 - 1.0) * at / (len(tokens) - 1)
            with weights.originals():
                plain, expert, novice = (
                    logs(model, heads[who] + tokens[:at]) for who in ("plain", "expert", "novice")
                )
            scores = plain + eta * (novice - expert)
            kept = scores.argsort(descending=True)[:7]
            shares = scores[kept].softmax(dim=-1)
            own = logs(model, heads["plain"] + tokens[:at], 1.0)
            each.append(-float((shares * own[kept]).sum()))
        total += sum(each) / len(each)
    loss = objective.loss("forget", draw)
    assert float(loss) == pytest.approx(total / len(found), rel=2e-4)
    assert any(part is not None for part in torch.autograd.grad(loss, weights.parameters, allow_unused=True))


@pytest.mark.parametrize("rows", ["forget", "plain"])
def test_own_texts_are_what_the_guided_original_writes(root: Path, rows: str) -> None:
    """With the likeliest token alone nothing is left to chance."""
    model, objective, weights, _ = setting(root, rows=rows, top=1, guidance=2.0)
    turn = ids_of(model, " So.")
    texts = objective.own.rows
    assert len(texts) == 2
    for number, row in enumerate(objective.data.forget_rows):
        heads, tokens = contexts(model, rows, row.question, row.answer, False)
        if rows == "plain":  # the first half of the text, whose end token counts as one of it
            whole = heads["plain"] + tokens
            kept = len(whole) // 2
            heads = {
                "plain": whole[:kept],
                **{who: heads[who] + whole[1:kept] for who in ("expert", "novice")},
            }
        begun, made = {who: head + turn for who, head in heads.items()}, []
        with weights.originals():
            while len(made) < 4 and (not made or made[-1] != model.reader.end):
                plain, expert, novice = (
                    logs(model, begun[who] + made) for who in ("plain", "expert", "novice")
                )
                made.append(int((plain + 2.0 * (novice - expert)).argmax()))
        mask = texts.attention_mask[number].bool()
        assert texts.input_ids[number][mask].tolist() == begun["plain"] + made
        assert texts.labels[number][texts.labels[number] >= 0].tolist() == made
        assert int((texts.labels[number] >= 0).sum()) == len(made)


def test_a_text_ends_where_the_model_ends_it(root: Path) -> None:
    model, objective, _, _ = setting(root, top=1, length=6)
    begun = [[5, 6, 7], [9, 8]]

    def made() -> list[list[int]]:
        texts = {who: [list(ids) for ids in begun] for who in ("plain", "expert", "novice")}
        with torch.no_grad():
            objective._continue(texts, torch.Generator().manual_seed(0))
        assert texts["plain"] == texts["novice"]
        return [ids[len(start) :] for ids, start in zip(texts["plain"], begun, strict=True)]

    model.reader.end = None
    whole = made()
    assert [len(ids) for ids in whole] == [6, 6]
    model.reader.end = whole[0][0]
    assert made()[0] == whole[0][:1]
    model.reader.end = whole[1][-1]
    stop = whole[1].index(whole[1][-1]) + 1
    assert made()[1] == whole[1][:stop]


def test_texts_are_drawn_from_the_seed(root: Path) -> None:
    one, same = (setting(root, guidance=0.0)[1].own.rows.input_ids for _ in range(2))
    assert torch.equal(one, same)


@pytest.mark.parametrize("retain", ["argmax", "soft"])
def test_the_retain_loss_is_the_cross_entropy_to_the_originals_choice(root: Path, retain: str) -> None:
    model, objective, weights, draw = setting(root, retain=retain)
    batch, total = draw["retain"], 0.0
    for number in range(len(batch)):
        row = batch.input_ids[number][batch.attention_mask[number].bool()].tolist()
        places = [at for at, label in enumerate(batch.labels[number].tolist()) if label >= 0]
        each = []
        for at in places:
            with weights.originals():
                before = after(model, row[:at]).softmax(dim=-1)
            own = logs(model, row[:at], 1.0)
            each.append(-float(own[before.argmax()] if retain == "argmax" else (before * own).sum()))
        total += sum(each) / len(each)
    assert float(objective.loss("retain", draw)) == pytest.approx(total / len(batch), rel=2e-4)


def test_where_both_sentences_say_the_same_it_is_the_original_that_is_kept(root: Path) -> None:
    _, objective, weights, _ = setting(root, novice="Sure.", temperature=1.0, top=1000)
    weights.restore()
    draw = objective.draw(0, torch.Generator().manual_seed(1), 2)
    parts = torch.autograd.grad(objective.loss("forget", draw), weights.parameters, allow_unused=True)
    assert all(part is None or float(part.abs().max()) < 1e-6 for part in parts)


def test_roles_and_what_they_take(root: Path) -> None:
    _, objective, _, draw = setting(root, consistency=0.5)
    kinds = {name: (role.kind, role.weight) for name, role in objective.roles(0).items()}
    assert kinds == {
        "forget": ("forget", 1.0),
        "retain": ("retain", 1.0),
        "relearn": ("inner", 1.0),
        "consistency": ("retain", 0.5),
    }
    assert float(objective.loss("consistency", draw)) > 0
    cost = ELM.step_cost(objective.options)
    assert (cost.forwards, cost.backwards) == (3, 1)
    _, without, _, draw = setting(root, consistency=0.0)
    assert set(without.roles(0)) == {"forget", "retain", "relearn"}
    assert "consistency" not in draw
    assert (ELM.step_cost(without.options).forwards, ELM.step_cost(without.options).backwards) == (2, 0)


def test_a_row_that_a_sentence_makes_too_long_is_named(root: Path) -> None:
    with pytest.raises(
        UserError, match=r"forget.jsonl, line 1: is \d+ tokens long with what method 'elm' adds"
    ):
        setting(root, expert="word " * 40)
