"""Task vector: the model goes as far the other way as fine-tuning on the forget set goes."""

from __future__ import annotations

from pathlib import Path

import torch

import tiny_language
from oubliette.backends.language import LanguageBackend
from oubliette.erase.language.prepare import prepare
from oubliette.erase.language.task_vector import TaskVector
from oubliette.erase.request import ErasureRequest
from oubliette.train.scope import select
from oubliette.train.tasks.answering import Answering
from oubliette.train.tuning.budget import Budget
from oubliette.train.tuning.tune import tune


def test_edits_are_the_scaled_negated_difference_and_nothing_else_moves(tmp_path: Path) -> None:
    tiny_language.save(tmp_path / "llama", "llama")
    tiny_language.write_rows(tmp_path / "forget.jsonl", tiny_language.FORGET)
    model = LanguageBackend.open(tmp_path / "llama", device="cpu")
    before = {name: tensor.detach().clone() for name, tensor in model.tensors().items()}
    request = ErasureRequest(forget=tmp_path / "forget.jsonl")
    scope = list(select(model, r"re:mlp\..*weight"))
    options = TaskVector.Options(scale=0.5, steps=3, batch=2, accumulation=1, learning_rate=1e-2)
    data = prepare(model, request, seed=7)
    with torch.no_grad():  # as `apply_edits` asks for them
        edits = {edit.name: edit for edit in TaskVector(options, request).solve(model, data, scope)}
    assert list(edits) == scope
    assert 0 < len(scope) < len(before)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.tensors().items())

    # The fine-tuned model itself, kept.
    budget = Budget(steps=3, batch=2, learning_rate=1e-2, schedule="cosine", weight_decay=0.0, seed=7)
    frozen = [name for name in before if name not in scope]
    tune(model, Answering(model, data.forget_rows), "full", budget, frozen=frozen, keep=True)
    for name, tensor in model.tensors().items():
        if name in edits:
            torch.testing.assert_close(edits[name].delta, -0.5 * (tensor.detach() - before[name]))
            assert float(edits[name].delta.abs().max()) > 0
        else:
            assert torch.equal(tensor, before[name])
