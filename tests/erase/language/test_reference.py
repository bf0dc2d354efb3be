"""An erasure of a stream: rows at hand instead of files, and an original that lies further back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import tiny_language
from oubliette.backends.language import LanguageBackend
from oubliette.core.errors import UserError
from oubliette.data.questions import QA
from oubliette.erase.language.npo import NPO
from oubliette.erase.language.prepare import prepare
from oubliette.erase.request import ErasureRequest
from oubliette.erase.run import erase
from oubliette.recipe import build_recipe
from oubliette.workflows.continual.carried import StreamEdit

FORGET = [QA(*row) for row in tiny_language.FORGET]
RETAIN = [QA(*row) for row in tiny_language.RETAIN]


@pytest.fixture
def model(tmp_path: Path) -> LanguageBackend:
    return LanguageBackend.open(tiny_language.save(tmp_path / "base", "llama"), device="cpu")


def recipe(scope: Any, **more: Any) -> Any:
    train = {"steps": 2, "batch": 2, "learning_rate": 0.05}
    return build_recipe({"method": {"name": "npo", "retain": "kl"}, "scope": scope, "train": train, **more})


def likelihood(model: LanguageBackend) -> torch.Tensor:
    batch = model.encode(FORGET)
    with torch.no_grad():
        return model.log_likelihood(model.predict(batch), batch)


@pytest.mark.parametrize("scope", ["full", {"name": "all-linear", "rank": 2}, "re:layers.1"])
def test_the_original_may_be_that_of_the_beginning(
    model: LanguageBackend, monkeypatch: pytest.MonkeyPatch, scope: Any
) -> None:
    seen: list[torch.Tensor] = []
    setup = NPO.setup

    def look(objective: NPO, *given: Any) -> None:
        setup(objective, *given)
        seen.append(objective.reference)

    monkeypatch.setattr(NPO, "setup", look)
    rows = {"forget": FORGET, "retain": RETAIN}
    base, stream = likelihood(model), StreamEdit(model)
    stream.keep(erase(model, recipe("re:layers.0"), rows=rows, show_progress=False))
    first, before = likelihood(model), model.fingerprint()
    assert not torch.allclose(first, base)
    later = erase(model, recipe(scope), rows=rows, reference=stream, show_progress=False)
    later.undo()
    assert model.fingerprint() == before  # what is undone is this request alone
    erase(model, recipe(scope), rows=rows, show_progress=False)
    assert torch.allclose(seen[1], base, atol=1e-5)
    assert torch.allclose(seen[2], first, atol=1e-5)


def test_an_attached_method_has_no_other_original(model: LanguageBackend) -> None:
    attached = build_recipe(
        {
            "method": {"name": "mrp", "blocks": [0, 1]},
            "scope": "full",
            "train": {"steps": 1},
            "save": {"form": "attached"},
        }
    )
    with pytest.raises(UserError, match="method 'mrp' is attached: its original is the model without it"):
        erase(model, attached, rows={"forget": FORGET}, reference=StreamEdit(model), show_progress=False)


def test_rows_at_hand_go_before_files(model: LanguageBackend, tmp_path: Path) -> None:
    file = tiny_language.write_rows(tmp_path / "retain.jsonl", tiny_language.RETAIN)
    named = recipe("full", retain=str(file))
    given = prepare(model, ErasureRequest.from_recipe(named, {"forget": FORGET[:1]}), seed=0)
    assert list(given.forget_rows) == FORGET[:1]
    assert list(given.retain_rows) == RETAIN
    none = prepare(model, ErasureRequest.from_recipe(named, {"forget": FORGET, "retain": ()}), seed=0)
    assert none.retain is None
    with pytest.raises(UserError, match="nothing to forget"):
        prepare(model, ErasureRequest.from_recipe(named, {"forget": ()}), seed=0)


def test_a_retain_set_is_encoded_once(model: LanguageBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = {"forget": FORGET, "retain": RETAIN}
    request = ErasureRequest.from_recipe(recipe("full"), rows)
    first = prepare(model, request, seed=0)
    again = prepare(
        model, ErasureRequest.from_recipe(recipe("full"), {**rows, "retain": list(RETAIN)}), seed=1
    )
    assert first.retain is again.retain
    other = prepare(model, ErasureRequest.from_recipe(recipe("full"), {**rows, "retain": RETAIN[:2]}), seed=0)
    assert other.retain is not None
    assert len(other.retain) == 2
