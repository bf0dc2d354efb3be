import pytest
import torch

import tiny_language
from oubliette.backends.language import LanguageBackend
from oubliette.backends.tokens import IGNORED
from oubliette.erase.language.graddiff import GradDiff
from oubliette.erase.language.prepare import prepare
from oubliette.erase.request import ErasureRequest
from oubliette.train.scope import select
from oubliette.train.weights import Weights


@pytest.fixture
def setting(tmp_path):
    """A model on its way, its originals, and a function that sets up GradDiff."""
    tiny_language.save(tmp_path / "model", "llama")
    forget = tiny_language.write_rows(tmp_path / "forget.jsonl", tiny_language.FORGET)
    retain = tiny_language.write_rows(tmp_path / "retain.jsonl", tiny_language.RETAIN)
    model = LanguageBackend.open(tmp_path / "model", device="cpu")
    weights = Weights(select(model, "full"))

    def build(with_retain=True, **options):
        request = ErasureRequest(forget=forget, retain_file=retain if with_retain else None)
        objective = GradDiff(GradDiff.Options(**options), request)
        objective.setup(model, prepare(model, request, seed=0), weights, 0)
        return objective

    return model, weights, build


def row_losses(model, batch):
    """Each row's mean nll per counted token, one row at a time through transformers' own loss."""
    found = []
    for row in range(len(batch)):
        alone = batch.index([row])
        found.append(model.model(input_ids=alone.input_ids, labels=alone.labels).loss)
    return torch.stack(found)


def test_both_losses_are_means_over_tokens_then_rows(setting):
    model, _, build = setting
    objective = build()
    draw = objective.draw(0, torch.Generator().manual_seed(1), 2)
    assert float(objective.loss("forget", draw)) == pytest.approx(
        -float(row_losses(model, draw["forget"]).mean()), rel=1e-5
    )
    assert float(objective.loss("retain", draw)) == pytest.approx(
        float(row_losses(model, draw["retain"]).mean()), rel=1e-5
    )


def test_the_divergence_counts_answer_tokens_alone_and_is_zero_at_the_original(setting):
    model, weights, build = setting
    objective = build(retain="kl")
    draw = objective.draw(0, torch.Generator().manual_seed(1), 3)
    assert float(objective.loss("retain", draw)) == pytest.approx(0.0, abs=1e-6)
    batch = draw["retain"]
    teacher = model.predict(batch).double()
    with torch.no_grad():
        for parameter in weights.parameters:
            parameter.mul_(1.3)
    again = objective.draw(0, torch.Generator().manual_seed(1), 3)  # its teacher is still the original
    student = model.predict(batch).double()
    rows = []
    for row in range(3):
        terms = []
        for position in range(batch.labels.shape[1] - 1):
            if batch.labels[row, position + 1] != IGNORED:
                p, q = (side[row, position].softmax(0) for side in (teacher, student))
                terms.append(float((p * (p / q).log()).sum()))
        rows.append(sum(terms) / len(terms))
    assert float(objective.loss("retain", again)) == pytest.approx(sum(rows) / 3, rel=1e-4)
    assert sum(rows) > 1e-3


def test_roles_follow_the_data_and_the_options(setting):
    _, _, build = setting
    roles = build(forget_weight=0.5).roles(0)
    assert [(name, role.kind, role.weight) for name, role in roles.items()] == [
        ("forget", "forget", 0.5),
        ("retain", "retain", 1.0),
        ("relearn", "inner", 1.0),
    ]
    alone = build(with_retain=False)
    assert list(alone.roles(0)) == ["forget", "relearn"]
    assert "retain" not in alone.draw(0, torch.Generator().manual_seed(0), 2)
