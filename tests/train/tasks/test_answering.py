"""The loss of questions and answers against its definition."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

import tiny_language
from attack.attacked import language
from oubliette.core.errors import UserError
from oubliette.data.questions import QA
from oubliette.train.fisher import fisher_diag
from oubliette.train.tasks.answering import Answering

ROWS = [QA(question, answer) for question, answer in tiny_language.RETAIN]


def test_the_loss_is_the_mean_over_rows_of_the_answers_mean():
    model = language()
    task = Answering(model, ROWS)
    batch = task.draw(torch.Generator().manual_seed(0), 3)
    expected = []
    for row in ROWS:
        prompt = len(model.tokenizer(row.question).input_ids)
        ids = [*model.tokenizer(f"{row.question} {row.answer}").input_ids, model.tokenizer.eos_token_id]
        logits = model.model(torch.tensor([ids])).logits[0]
        expected.append(F.cross_entropy(logits[prompt - 1 : -1], torch.tensor(ids[prompt:])))
    torch.testing.assert_close(task.loss(model, batch), torch.stack(expected).mean())


def test_a_rows_likelihood_is_what_the_loss_is_made_of():
    model = language()
    task = Answering(model, ROWS)
    for index in range(len(task)):
        batch = task._rows.index(torch.tensor([index]))
        alone = task.log_likelihood(model, index)
        torch.testing.assert_close(-alone / batch.counts()[0], task.loss(model, batch))
    assert all(part.isfinite().all() for part in fisher_diag(model, task).values())


def test_rows_are_drawn_by_the_generator_none_twice_while_there_are_others():
    task = Answering(language(), ROWS)
    assert len(task) == 3
    one, two = (task.draw(torch.Generator().manual_seed(4), 5) for _ in range(2))
    assert torch.equal(one.input_ids, two.input_ids)
    assert len({tuple(row.tolist()) for row in one.input_ids[:3]}) == 3


def test_no_rows_are_refused():
    with pytest.raises(UserError, match="at least one"):
        Answering(language(), [])


def test_halves_are_disjoint_and_hold_every_row():
    task = Answering(language(), ROWS)
    one, other = task.halves(1)
    rows = [
        tuple(row[row != 0].tolist())
        for half in (one, other)
        for row in half.draw(torch.Generator().manual_seed(0), len(half)).input_ids
    ]
    assert (len(one), len(other)) == (2, 1)
    assert len(set(rows)) == 3
    with pytest.raises(UserError, match="at least two"):
        other.halves(0)
