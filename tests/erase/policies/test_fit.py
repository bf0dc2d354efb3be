"""What FIT decides: which objective on which rows, what it skips, what it remembers."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch

import tiny_language
from oubliette.backends.language import LanguageBackend
from oubliette.core.errors import UserError
from oubliette.data.questions import QA
from oubliette.erase.policies import fit as module
from oubliette.erase.policies.fit import FIT, said, windows
from oubliette.erase.policy import Asked
from oubliette.recipe import build_recipe, read_recipe

TEXT = "Ada Marlow painted the red door. Quill is a town."
RETAIN = [QA(*row) for row in tiny_language.RETAIN]
LATER = [QA("Who wrote it?", "Bram Quill")]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> LanguageBackend:
    folder: Path = tiny_language.save(tmp_path_factory.mktemp("lm") / "base", "llama")
    return LanguageBackend.open(folder, device="cpu")


def policy(model: LanguageBackend, **options: Any) -> FIT:
    made = FIT(FIT.Options(**options))
    made.begin(model, recipe())
    return made


def recipe() -> Any:
    found = read_recipe("fit")
    found["scope"]["top"] = 1
    return build_recipe({key: value for key, value in found.items() if key != "policy"})


def asked(text: str = TEXT, number: int = 1) -> Asked:
    return Asked(
        number,
        recipe(),
        (QA("", text),),
        RETAIN,
        to_come=lambda: LATER,
        before=nullcontext,
        compose=lambda **_: recipe(),
    )


@pytest.mark.parametrize(
    ("value", "level", "method", "retained"),
    [
        (5.0, "low", {"name": "random-labels"}, 0),
        (6.0, "middle", {"name": "npo", "beta": 0.1}, 0),
        (12.0, "high", {"name": "npo", "beta": 0.1, "retain": "cross_entropy"}, 3),
    ],
)
def test_the_importance_chooses_the_objective(
    model: LanguageBackend,
    monkeypatch: pytest.MonkeyPatch,
    value: float,
    level: str,
    method: dict[str, Any],
    retained: int,
) -> None:
    monkeypatch.setattr(module, "importance", lambda *_: value)
    found = policy(model).decide(model, asked())
    assert found.recipe is not None
    assert (found.facts["level"], found.recipe.method) == (level, method)
    assert found.recipe.scope == {"name": "attribution", "top": 1}
    assert [row.answer for row in found.rows["forget"]] == [TEXT]
    assert len(found.rows["retain"]) == retained
    assert set(found.rows["retain"]) <= {*RETAIN, *LATER}
    assert found.from_start


def test_it_is_off_where_it_is_switched_off(model: LanguageBackend) -> None:
    made = policy(model, filter=False, importance=False, target=False, future=False)
    for _ in range(2):
        found = made.decide(model, asked())
        made.done()
        assert found.recipe is not None
        assert found.recipe.method["name"] == "npo"
        assert found.recipe.scope == {"name": "all-linear"}
        assert set(found.rows["retain"]) == set(RETAIN)
        assert set(found.facts) == {"level", "characters"}
    assert made.tensors() == {}


def test_a_request_that_was_made_before_is_skipped_once_it_is_done(model: LanguageBackend) -> None:
    made = policy(model, matters=100.0)
    assert made.decide(model, asked()).recipe is not None
    assert made.decide(model, asked()).recipe is not None  # as the first was never run
    made.done()
    again = made.decide(model, asked(number=2))
    assert (again.recipe, again.facts["filter"]["kept"]) == (None, 0)
    before = made.tensors()["memory"].clone()
    made.done()
    assert torch.equal(made.tensors()["memory"], before)


def test_thirds_of_the_first_requests_are_the_bounds(
    model: LanguageBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = iter([3.0, 1.0, 2.0, 1.1, 9.0, 0.1])
    monkeypatch.setattr(module, "importance", lambda *_: next(values))
    made = policy(model, filter=False, bounds=None, calibrate=4)
    levels = []
    for _ in range(6):
        levels.append(made.decide(model, asked()).facts["level"])
        made.done()
    assert levels == ["middle", "middle", "middle", "low", "high", "low"]
    assert made.facts() == {"seen": [3.0, 1.0, 2.0, 1.1]}


def test_its_state_is_all_it_remembers(model: LanguageBackend) -> None:
    first = policy(model, bounds=None, matters=0.0)
    for number, text in enumerate((TEXT, "The capital of France is Paris."), start=1):
        first.decide(model, asked(text, number))
        first.done()
    second = policy(model, bounds=None, matters=0.0)
    second.load(first.tensors(), first.facts())
    one, two = (made.decide(model, asked(TEXT + " Paris.", 3)) for made in (first, second))
    assert one.facts == two.facts
    assert one.recipe == two.recipe
    assert list(one.rows["forget"]) == list(two.rows["forget"])
    assert one.facts["filter"]["doubted"] > 0


def test_the_encoder_sees_the_model_the_stream_began_with(model: LanguageBackend) -> None:
    from contextlib import contextmanager

    inside: list[bool] = []

    @contextmanager
    def before():
        inside.append(True)
        yield
        inside.pop()

    made = policy(model)
    encode = made._encode
    assert encode is not None
    made._encode = lambda texts: encode(texts) if inside else pytest.fail("outside")
    request = asked()
    made.decide(model, Asked(**{**request.__dict__, "before": before}))


def test_windows_cover_a_text_and_fit_the_context(model: LanguageBackend) -> None:
    text = "Ada Marlow painted the red door of the town of Quill. " * 8
    for characters in (7, 50, 10_000):
        parts = windows(model.reader, text, characters)
        assert "".join(parts) == text
        assert all(len(part) <= characters and model.reader.fits(QA("", part)) for part in parts)
    assert windows(model.reader, "Ada" + " " * 9, 4) == ["Ada "]


def test_a_question_is_forgotten_with_its_answer() -> None:
    assert said(QA("Who?", "me")) == "Who? me"
    assert said(QA("", "a text")) == "a text"


def test_what_does_not_fit_is_refused_at_the_start(model: LanguageBackend, tiny_folder: Path) -> None:
    from oubliette.backends import open_model

    with pytest.raises(UserError, match=r"policy 'fit' reads texts, and .* is a diffusion model"):
        FIT(FIT.Options()).begin(open_model(tiny_folder, device="cpu"), recipe())  # type: ignore[arg-type]
    with pytest.raises(UserError, match="no method is called 'npoo'"):
        policy(model, middle={"name": "npoo"})
    with pytest.raises(UserError, match=r"encoder .*nowhere: no such folder"):
        policy(model, encoder="nowhere")
    with pytest.raises(ValueError, match="bounds go up"):
        FIT.Options(bounds=(2.0, 1.0))


def test_the_presets_say_what_the_release_has() -> None:
    found = build_recipe(read_recipe("fit"))
    options = found.make_policy().options  # type: ignore[attr-defined]
    assert (options.chunk, options.similar, options.matters, options.bounds) == (8, 0.9, 0.2, (6.0, 12.0))
    train = found.train
    assert (train.learning_rate, train.betas, train.weight_decay) == (3e-5, (0.9, 0.95), 0.1)
    assert (train.steps, train.schedule, train.floor, train.warm_up) == (3, "cosine", 0.1, 0)
    assert found.scope == {"name": "attribution", "top": 8}
    nano = build_recipe(read_recipe("fit-nano")).make_policy().options  # type: ignore[attr-defined]
    assert (nano.chunk, nano.matters / nano.chunk, nano.bounds) == (32, 0.2 / 8, None)


def test_the_anchors_rows_are_drawn_from_the_requests_seed(model: LanguageBackend) -> None:
    made = policy(model, filter=False, importance=False)
    many = tuple(QA("Who?", f"number {number}") for number in range(40))
    request = asked()

    def drawn(seed: int) -> list[QA]:
        own = request.recipe.model_copy(update={"seed": seed})
        found = made.decide(model, Asked(**{**request.__dict__, "recipe": own, "retain": many}))
        return list(found.rows["retain"])

    assert drawn(3) == drawn(3) != drawn(4)
    assert len(drawn(3)) == request.recipe.train.steps


def test_each_step_is_over_all_windows_of_a_text(model: LanguageBackend) -> None:
    found = policy(model, window=20).decide(model, asked())
    assert found.recipe is not None
    assert found.recipe.train.batch == len(found.rows["forget"]) == 3
