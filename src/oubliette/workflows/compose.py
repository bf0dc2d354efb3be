"""A recipe from what a user asks for: a concept, an anchor, a method, and whatever else is to differ."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from oubliette.core.errors import UserError, suggest
from oubliette.data.concepts import make_concepts
from oubliette.recipe import Recipe, apply_overrides, build_recipe, preset_names, read_recipe, validate
from oubliette.workflows.modality import modality_of

if TYPE_CHECKING:
    from oubliette.backends.base import Backend

__all__ = ["compose", "pick_preset"]

#: What the presets for a world's small models end in.
_WORLD_PRESETS = {"picture": "-nano"}


def compose(
    model: Backend,
    *,
    concept: str | Sequence[str] = (),
    anchor: str | Sequence[str] | None = None,
    kind: str | Sequence[str] | None = None,
    method: str | None = None,
    preset: str | None = None,
    scope: str | None = None,
    surgery: str | Mapping[str, Any] | None = None,
    smoother: str | Mapping[str, Any] | None = None,
    seed: int | None = None,
    steps: int | None = None,
    prompts: Path | str | None = None,
    retain: Path | str | Sequence[str] | None = None,
    forget: Path | str | None = None,
    data: Path | str | None = None,
    freeze: Path | str | Sequence[str] | None = None,
    save: str | None = None,
    overrides: Iterable[str] = (),
) -> Recipe:
    """A checked recipe for `model`: the method's preset with what is given here put over it.

    `anchor` and `kind` are one for all concepts or one for each; left out, the world knows them. `method` is
    a method or a preset, `preset` a preset of exactly that name. `prompts` is a CSV of prompt pairs, `data` a
    folder of anchor pictures. `retain` is what must stay: prompts (a list, or a text file of one a line) for
    pictures, a JSONL file for language, where `forget` is the other. `overrides` ("train.steps=50") come
    last. Raises UserError for what does not fit.
    """
    wanted = make_concepts(model, concept, anchor, kind)
    raw = read_recipe(preset or pick_preset(model, method))
    changes: dict[str, Any] = {"model": model.source}
    if wanted:
        changes["concepts"] = [{"name": c.name, "anchor": c.anchor, "kind": c.kind} for c in wanted]
    for part, given in (("scope", scope), ("surgery", surgery), ("smoother", smoother)):
        if given is not None and not _same_name(raw.get(part), given):
            changes[part] = given
    if seed is not None:
        changes["seed"] = seed
    if freeze is not None:
        changes["freeze"] = str(freeze) if isinstance(freeze, str | Path) else list(freeze)
    if forget is not None:
        changes["forget"] = str(forget)
    if retain is not None:
        modality_of(model).retain(raw, retain)
    for key, source in (("pairs", prompts), ("path", data)):
        if source is not None:
            raw["data"] = {**(raw.get("data") or {}), key: str(source)}
    if steps is not None:
        _set_steps(raw, steps)
    if save is not None:
        raw["save"] = {**(raw.get("save") or {}), "form": save}
    overrides = list(overrides)
    built = build_recipe(apply_overrides({**raw, **changes}, overrides), "recipe")
    own = {override.partition("=")[0].strip() for override in overrides} | (
        {"train.steps"} if steps else set()
    )
    return validate(_grown(built, own))


def pick_preset(model: Backend, method: str | None) -> str:
    """The preset for a method: the one for the model's world, else the published one; a preset is itself.

    A method of another package may bring its own (`preset`, a recipe's mapping).
    """
    from oubliette.erase import METHODS

    method = method or modality_of(model).method
    presets = preset_names()
    for name in (method + _WORLD_PRESETS.get(model.world or "", ""), method):
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
