"""What there is to choose from, with a line on each."""

from __future__ import annotations

import inspect
from collections.abc import Callable

from oubliette.core.errors import UserError, suggest
from oubliette.core.registry import Registry

__all__ = ["LISTS", "listing"]


def listing(what: str) -> dict[str, str]:
    """Name -> one line, of methods, recipes, scopes, surgeries, smoothers, policies, judges, metrics,
    attacks, learners or models."""
    if what not in LISTS:
        raise UserError(f"nothing to list is called '{what}'; {suggest(what, LISTS)}")
    return LISTS[what]()


def _members(registry: Registry) -> dict[str, str]:
    """Each member's docstring, its first paragraph as one line."""
    return {
        name: " ".join(inspect.cleandoc(registry.about(name)["__doc__"]).split("\n\n")[0].split())
        for name in registry.names()
    }


def _methods() -> dict[str, str]:
    from oubliette.erase import METHODS

    found = {}
    for name in METHODS.names():
        said = METHODS.about(name, "backend", "solution", "paper")
        found[name] = f"{said['backend']}, {said['solution']}; {said['paper']}"
    return found


def _recipes() -> dict[str, str]:
    from oubliette.recipe import preset_names, read_recipe

    return {name: " ".join(str(read_recipe(name).get("about", "")).split()) for name in preset_names()}


def _scopes() -> dict[str, str]:
    from oubliette.train import SCOPES

    return {**_members(SCOPES), "re:PATTERN": "Every tensor in whose name the regular expression is found."}


def _surgeries() -> dict[str, str]:
    from oubliette.train import SURGERIES

    return _members(SURGERIES)


def _smoothers() -> dict[str, str]:
    from oubliette.train import SMOOTHERS

    return _members(SMOOTHERS)


def _policies() -> dict[str, str]:
    from oubliette.erase import POLICIES

    return _members(POLICIES)


def _judges() -> dict[str, str]:
    from oubliette.eval.judge import JUDGES

    return _members(JUDGES)


def _metrics() -> dict[str, str]:
    from oubliette.eval.metric import METRICS

    return _members(METRICS)


def _attacks() -> dict[str, str]:
    from oubliette.attack import ATTACKS

    kinds = {"relearn": "relearning", "prompt": "prompts", "probe": "probe"}
    said = {name: ATTACKS.about(name, "kind", "about") for name in ATTACKS.names()}
    return {name: f"{kinds[found['kind']]}; {found['about']}" for name, found in said.items()}


def _learners() -> dict[str, str]:
    from oubliette.guard.learners import LEARNERS

    said = {name: LEARNERS.about(name, "about", "paper") for name in LEARNERS.names()}
    return {name: f"{found['about']}; {found['paper']}" for name, found in said.items()}


def _models() -> dict[str, str]:
    from oubliette.world import embedded

    return {
        name: embedded.ABOUT[name] + ("" if embedded.path(name) else " (not in this installation)")
        for name in embedded.names()
    }


LISTS: dict[str, Callable[[], dict[str, str]]] = {
    "methods": _methods,
    "recipes": _recipes,
    "scopes": _scopes,
    "surgeries": _surgeries,
    "smoothers": _smoothers,
    "policies": _policies,
    "judges": _judges,
    "metrics": _metrics,
    "attacks": _attacks,
    "learners": _learners,
    "models": _models,
}
"""Each kind of thing that can be listed."""
