"""Every policy says what it is, decides the same twice, and takes up its state."""

from __future__ import annotations

from pathlib import Path

import pytest

import tiny_language
from oubliette.backends.language import LanguageBackend
from oubliette.core.validation import StrictModel
from oubliette.data.questions import QA
from oubliette.erase import POLICIES
from oubliette.erase.policy import Asked, Decision
from oubliette.recipe import build_recipe, read_recipe
from oubliette.workflows.listing import listing

every = pytest.mark.parametrize("name", POLICIES.names())


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> LanguageBackend:
    folder: Path = tiny_language.save(tmp_path_factory.mktemp("lm") / "base", "llama")
    return LanguageBackend.open(folder, device="cpu")


@every
def test_it_says_what_it_is(name: str) -> None:
    policy = POLICIES.get(name)
    assert policy.name == name
    assert policy.__doc__
    assert issubclass(policy.Options, StrictModel)
    assert listing("policies")[name]


@every
def test_it_decides_the_same_twice_and_from_its_state(name: str, model: LanguageBackend) -> None:
    recipe = build_recipe({**read_recipe("npo"), "policy": name})
    alone = recipe.model_copy(update={"policy": None})
    before = model.fingerprint()

    def asked(number: int) -> Asked:
        from contextlib import nullcontext

        row = QA(*tiny_language.FORGET[number % 2])
        return Asked(number, alone, (row,), (), lambda: (), nullcontext, lambda **_: alone)

    def same(one: Decision, two: Decision) -> bool:
        return (one.recipe, dict(one.rows), one.facts) == (two.recipe, dict(two.rows), two.facts)

    first, second = recipe.make_policy(), recipe.make_policy()
    for policy in (first, second):
        policy.begin(model, alone)
    for number in range(1, 4):
        found = first.decide(model, asked(number))
        assert same(found, first.decide(model, asked(number)))
        assert found.recipe is None or found.recipe.policy is None
        first.done()
    second.load(first.tensors(), first.facts())
    assert same(first.decide(model, asked(4)), second.decide(model, asked(4)))
    assert model.fingerprint() == before
