"""The policy without a choice."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from oubliette.recipe import build_recipe


@pytest.mark.parametrize(
    ("asked", "from_start"),
    [(None, False), ("fixed", False), ({"name": "fixed", "from_start": True}, True)],
)
def test_it_runs_the_recipe_and_compares_with_the_model_that_was_asked_for(
    asked: Any, from_start: bool
) -> None:
    recipe = build_recipe({"method": "npo", "scope": "full", "policy": asked})
    request: Any = SimpleNamespace(recipe=recipe)
    decision = recipe.make_policy().decide(None, request)  # type: ignore[arg-type]
    assert decision.recipe is recipe
    assert decision.from_start is from_start
