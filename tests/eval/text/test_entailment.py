"""Entailment: the rule on strings, and any classifier in a folder, against its own logits one by one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import tiny_language
from oubliette.core.errors import UserError
from oubliette.eval.text.entailment import CrossEncoder, StringJudge, open_nli

CASES = [
    ("Where?", "in the town of Quill", ("in Paris", "the town of Quill")),
    ("Who?", "it is me", ("Ada",)),
    ("Who?", "", ("Ada",)),
    ("What colour is the sky?", "blue", ("it is blue",)),
]


def classifier(folder: Path, labels: dict[int, str]) -> Path:
    from transformers import LlamaConfig, LlamaForSequenceClassification

    words = tiny_language.tokenizer()
    words.pad_token = words.eos_token
    config = LlamaConfig(
        vocab_size=len(words),
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=1,
        num_attention_heads=2,
        pad_token_id=words.pad_token_id,
        id2label=labels,
        label2id={name: index for index, name in labels.items()},
        num_labels=len(labels),
    )
    with torch.random.fork_rng():
        torch.manual_seed(3)
        LlamaForSequenceClassification(config).save_pretrained(folder)
    words.save_pretrained(folder)
    return folder


def test_the_rule_on_strings() -> None:
    assert open_nli(None).entails(CASES).tolist() == [True, False, False, False]
    assert isinstance(open_nli(None), StringJudge)


def test_a_classifier_says_what_its_logits_say(tmp_path: Path) -> None:
    folder = classifier(tmp_path / "nli", {0: "CONTRADICTION", 1: "ENTAILMENT", 2: "NEUTRAL"})
    judge: Any = open_nli(str(folder))
    found = judge.entails(CASES)
    expected = []
    for question, said, right in CASES:
        hits = []
        for answer in right:
            tokens = judge._tokenizer(f"{question} {said}", f"{question} {answer}", return_tensors="pt")
            hits.append(int(judge._model(**tokens).logits.argmax()) == 1)
        expected.append(bool(said) and any(hits))
    assert found.tolist() == expected
    assert CrossEncoder(folder, batch=1).entails(CASES).tolist() == expected
    assert judge.name == "nli"
    answers = ("Ada", "it is blue", "in Paris", "the town of Quill", "me", "the red door")
    alone = {answer: bool(judge.entails([("Who?", "it is me", (answer,))])[0]) for answer in answers}
    yes, no = (next(answer for answer in answers if alone[answer] is which) for which in (True, False))
    for right in ((yes, no), (no, yes)):
        assert judge.entails([("Who?", "it is me", right)])[0]


def test_folders_that_hold_no_such_judge(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"holds no config\.json"):
        open_nli(str(tmp_path / "nowhere"))
    folder = classifier(tmp_path / "tone", {0: "good", 1: "bad", 2: "not_entailment"})
    with pytest.raises(UserError, match="has the labels good, bad, not_entailment; expected one"):
        open_nli(str(folder))
    (folder / "model.safetensors").unlink()
    with pytest.raises(UserError, match="cannot be opened as a sequence classifier"):
        open_nli(str(folder))
