"""What a recipe will cost, before anything is done: passes through the network, tensors that may move."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from oubliette.recipe import Recipe

if TYPE_CHECKING:
    from oubliette.backends.base import Backend

__all__ = ["estimate"]


def estimate(model: Backend, recipe: Recipe) -> dict[str, Any]:
    """Trained tensors and parameters, and about how many items pass through the network.

    `forwards` and `backwards` count one item (a noised picture, a row of text) each, every process and
    micro-batch together; `pictures` are drawn beforehand, each `steps x 2` forwards with guidance, which
    `forwards` holds too. An upper estimate: the few passes that a method shares between roles count twice.
    """
    from oubliette.erase import METHODS
    from oubliette.train.freeze import apply_freeze
    from oubliette.train.scope import select

    method = METHODS.get(recipe.method["name"])
    named = apply_freeze(select(model, recipe.scope), recipe.freeze, known=model.tensors())
    found: dict[str, Any] = {
        "method": method.name,
        "solution": method.solution,
        "tensors": len(named),
        "parameters": sum(parameter.numel() for parameter in named.values()),
        "of_parameters": sum(parameter.numel() for parameter in model.tensors().values()),
        "pictures": 0,
        "forwards": 0,
        "backwards": 0,
    }
    if method.solution == "trained":
        found.update(_trained(recipe, recipe.method_options()))
    return found


def _trained(recipe: Recipe, options: Any) -> dict[str, int]:
    train = recipe.train
    items = train.batch * train.accumulation
    warm = min(getattr(options, "warm_up", 0), train.steps)
    updates = train.steps - warm
    prior = getattr(options, "prior", None)
    retain = recipe.retain is not None or prior not in (None, "none")
    smoothed = recipe.smoother["name"] != "none"
    backwards = updates * items * (1 + int(smoothed) + int(retain))
    # Every forget pass has a frozen one beside it for its target; so has a step of warm-up.
    forwards = backwards + updates * items + warm * items * 2
    # A trajectory stops half-way on average, and each of its steps is guided: two forwards.
    forwards += train.steps * items * getattr(options, "trajectory_steps", 0)
    pictures = 0
    if prior is not None and recipe.data.path is None:
        pictures = recipe.data.pictures * (2 if prior == "retain" else 1)
    forwards += pictures * recipe.data.picture_steps * 2
    return {"pictures": pictures, "forwards": forwards, "backwards": backwards}
