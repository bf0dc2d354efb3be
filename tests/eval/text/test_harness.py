"""What lm-evaluation-harness asks of a model, against loops over a tiny model's logits."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch

import tiny_language
from oubliette.backends import open_model
from oubliette.core.errors import UserError
from oubliette.eval.text.harness import harness_model


@pytest.fixture
def model(tmp_path: Path) -> Any:
    return open_model(tiny_language.save(tmp_path / "tiny", "llama", chat=True), device="cpu")


@pytest.fixture
def harness(model: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    try:
        import lm_eval.api.model  # noqa: F401
    except ImportError:  # its one class that we build on
        made = ModuleType("lm_eval.api.model")
        made.LM = type("LM", (), {})  # type: ignore[attr-defined]
        for name in ("lm_eval", "lm_eval.api"):
            monkeypatch.setitem(sys.modules, name, ModuleType(name))
        monkeypatch.setitem(sys.modules, "lm_eval.api.model", made)
    return harness_model(model, batch=2)


def asked(*pairs: Any) -> list[Any]:
    return [SimpleNamespace(args=pair) for pair in pairs]


def by_hand(model: Any, ids: list[int], start: int) -> tuple[float, bool]:
    """The log-probability of the tokens from `start` on, one forward pass each."""
    total, greedy = 0.0, True
    for at in range(start, len(ids)):
        with torch.no_grad():
            logs = model.model(input_ids=torch.tensor([ids[:at]])).logits[0, -1].double().log_softmax(-1)
        total += float(logs[ids[at]])
        greedy &= int(logs.argmax()) == ids[at]
    return total, greedy


def test_log_likelihoods(model: Any, harness: Any) -> None:
    words = model.tokenizer
    context, tail = words("Who is it?").input_ids, words(" me").input_ids
    greedy = model.model.generate(
        input_ids=torch.tensor([context]), max_new_tokens=1, do_sample=False, pad_token_id=0
    )[0, -1:]
    likely = words.decode(greedy)
    found = harness.loglikelihood(asked(("Who is it?", " me"), ("", "it is blue"), ("Who is it?", likely)))
    for (total, is_greedy), ids, start in zip(
        found,
        [[*context, *tail], [0, *words("it is blue").input_ids], [*context, *greedy.tolist()]],
        [len(context), 1, len(context)],
        strict=True,
    ):
        wanted, right = by_hand(model, ids, start)
        assert total == pytest.approx(wanted, rel=1e-5)
        assert is_greedy == right
    assert found[2][1]


def test_a_long_context_loses_its_beginning(model: Any, harness: Any) -> None:
    ids = model.tokenizer("Quill " * 60 + "so").input_ids
    tail = model.tokenizer(" me").input_ids
    (total, _), *_ = harness.loglikelihood(asked(("Quill " * 60 + "so", " me")))
    kept = [*ids, *tail][-64:]
    assert total == pytest.approx(by_hand(model, kept, 64 - len(tail))[0], rel=1e-5)
    with pytest.raises(UserError, match="reads 64, one of them before it"):
        harness.loglikelihood(asked(("so", "Quill " * 60)))


def test_a_rolling_text_counts_every_token_once(model: Any, harness: Any) -> None:
    for text in ("it is blue", "it is blue and so is Quill " * 12):
        ids = [0, *model.tokenizer(text).input_ids]
        wanted, at = 0.0, 1
        while at < len(ids):
            end = min(at + 63, len(ids))
            window = ids[max(0, end - 64) : end]
            wanted += by_hand(model, window, len(window) - (end - at))[0]
            at = end
        assert harness.loglikelihood_rolling(asked((text,))) == [pytest.approx(wanted, rel=1e-5)]


def test_answers_end_where_they_are_told_to(model: Any, harness: Any) -> None:
    (whole,) = harness.generate_until(asked(("Who?", {"until": [], "max_gen_toks": 8})))
    ids = model.tokenizer("Who?").input_ids
    made = model.model.generate(
        input_ids=torch.tensor([ids]), max_new_tokens=8, do_sample=False, pad_token_id=0
    )
    assert whole == model.tokenizer.decode(made[0, len(ids) :], skip_special_tokens=True)
    (short,) = harness.generate_until(asked(("Who?", {"until": [whole[2]], "max_gen_toks": 8})))
    assert short == whole[: whole.index(whole[2])]
    assert harness.generate_until(asked(("Quill " * 90, {"until": "zzz", "max_gen_toks": 4})))
    turns = [{"role": "user", "content": "Who?"}]
    assert harness.apply_chat_template(turns) == "<user>Who?<assistant>"


def test_what_is_attached_is_in_force(model: Any, harness: Any) -> None:
    before = harness.loglikelihood(asked(("Who?", " me")))
    handle = model.blocks()[0].register_forward_hook(lambda module, inputs, output: output * 0)
    try:
        assert harness.loglikelihood(asked(("Who?", " me"))) != before
    finally:
        handle.remove()


def test_without_the_extra_it_is_one_line(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    monkeypatch.setitem(sys.modules, "lm_eval.api", None)
    monkeypatch.setitem(sys.modules, "lm_eval.api.model", None)
    with pytest.raises(UserError, match=r"pip install 'oubliette\[tasks\]'"):
        harness_model(model)
