"""A recipe from what a user asks for: a concept, an anchor, a method, and whatever else is to differ."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from oubliette.core.errors import UserError, suggest
from oubliette.data.concepts import make_concepts
from oubliette.recipe import Recipe, apply_overrides, build_recipe, preset_names, read_recipe, validate
from oubliette.workflows.modality import modality_of
from oubliette.workflows.order import Order
from oubliette.world.world import world_of

if TYPE_CHECKING:
    from oubliette.backends.base import Backend

__all__ = ["compose", "pick_preset"]


def compose(model: Backend, order: Order) -> Recipe:
    """A checked recipe for `model`: the method's preset with what is ordered put over it.

    Raises UserError for what does not fit.
    """
    wanted = make_concepts(model, order.concept, order.anchor, order.kind)
    named = order.policy if order.policy in preset_names() else None  # a policy may have a preset of its own
    raw = read_recipe(order.preset or pick_preset(model, order.method or named))
    changes: dict[str, Any] = {"model": model.source}
    if wanted:
        changes["concepts"] = [{"name": c.name, "anchor": c.anchor, "kind": c.kind} for c in wanted]
    for part in ("scope", "surgery", "smoother", "policy"):
        given = getattr(order, part)
        if given is not None and not _same_name(raw.get(part), given):
            changes[part] = given
    if order.seed is not None:
        changes["seed"] = order.seed
    if order.freeze is not None:
        changes["freeze"] = str(order.freeze) if isinstance(order.freeze, str | Path) else list(order.freeze)
    if order.forget is not None:
        changes["forget"] = str(order.forget)
    if order.retain is not None:
        modality_of(model).retain(raw, order.retain)
    for key, source in (("pairs", order.prompts), ("path", order.data)):
        if source is not None:
            raw["data"] = {**(raw.get("data") or {}), key: str(source)}
    if order.steps is not None:
        _set_steps(raw, order.steps)
    if order.save is not None:
        raw["save"] = {**(raw.get("save") or {}), "form": order.save}
    overrides = list(order.overrides)
    built = build_recipe(apply_overrides({**raw, **changes}, overrides), "recipe")
    own = {override.partition("=")[0].strip() for override in overrides} | (
        {"train.steps"} if order.steps else set()
    )
    return validate(_grown(built, own))


def pick_preset(model: Backend, method: str | None) -> str:
    """The preset for a method: the one for the model's world, else the published one; a preset is itself.

    A method of another package may bring its own (`preset`, a recipe's mapping).
    """
    from oubliette.erase import METHODS

    method = method or modality_of(model).method
    presets = preset_names()
    for name in (f"{method}-{world_of(model).overlay}", method):
        if name in presets:
            return name
    own = [name for name in presets if name.startswith(f"{method}-")]
    if not own and method in METHODS and hasattr(METHODS.get(method), "preset"):
        return method
    if own:
        raise UserError(f"method '{method}' comes in several presets; choose one of {', '.join(own)}")
    raise UserError(f"no method or preset is called '{method}'; {suggest(method, presets)}")


def _grown(recipe: Recipe, own: set[str]) -> Recipe:
    """The recipe with its budget (`budget` of the method) multiplied by the number of concepts, so that each
    gets what the preset gives one; numbers that the user gave (`own`) are totals and stay, and with the
    updates all that is counted in updates.
    """
    from oubliette.erase import METHODS

    count = len(recipe.concepts)
    if count < 2:
        return recipe
    found = recipe.model_dump()
    options = recipe.method_options().model_dump()
    for key in getattr(METHODS.get(recipe.method["name"]), "budget", ()):
        if key not in own and ("train.steps" not in own or key.startswith("data.")):
            part, name = key.split(".")
            found[part][name] = count * {**options, **found[part]}[name]
    return recipe.model_validate({**found, "budget_for": count})


def _same_name(current: Any, given: str | Mapping[str, Any]) -> bool:
    """Whether a bare name asks for the part a preset already has: its options there are kept."""
    name = current.get("name") if isinstance(current, Mapping) else current
    return isinstance(given, str) and given == name


def _set_steps(raw: dict[str, Any], steps: int) -> None:
    from oubliette.erase import METHODS

    name, _ = METHODS.parse(raw["method"])
    method = METHODS.get(name)
    if method.solution != "trained" and not getattr(method, "trains", False):
        raise UserError(f"method '{name}' is {method.solution}, not trained: it takes no number of steps")
    raw["train"] = {**(raw.get("train") or {}), "steps": steps}
