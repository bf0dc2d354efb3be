"""Everything that an erasure would refuse on a model, before any work."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from oubliette.backends.attachment import Attachable, Attachment
from oubliette.backends.base import draws
from oubliette.backends.files.lora_form import check_lora, holds
from oubliette.core.errors import UserError
from oubliette.data.text import refuse_cut, warn_of_cut
from oubliette.erase import METHODS, PREPARERS
from oubliette.erase.request import ErasureRequest
from oubliette.recipe import Recipe, validate
from oubliette.train import SCOPES
from oubliette.train.adapters import layers_in
from oubliette.train.freeze import apply_freeze
from oubliette.train.scope import check_scope, measured_rule, select

if TYPE_CHECKING:
    from torch import nn

    from oubliette.backends.base import Backend
    from oubliette.data.questions import QA

__all__ = ["Settled", "goes_on", "rehearse", "settle"]


@dataclass(frozen=True)
class Settled:
    """A recipe that fits its model: the method's class, the tensors that may move (of a measured scope all
    that may be chosen), and what is to go.
    """

    method: Any
    scoped: dict[str, nn.Parameter]
    request: ErasureRequest


def settle(model: Backend, recipe: Recipe, rows: Mapping[str, Sequence[QA]] | None = None) -> Settled:
    """Hold a recipe against its model; UserError for what cannot be run, before a picture is drawn.

    `rows` take the place of the files of the recipe's forget and retain sets.
    """
    validate(recipe)
    if recipe.policy is not None:
        raise UserError(
            f"policy '{recipe.policy['name']}' decides about one request after another: give --stream"
        )
    method = METHODS.get(recipe.method["name"])
    if method.backend != model.kind:
        fitting = [name for name in METHODS if METHODS.get(name).backend == model.kind]
        raise UserError(
            f"method '{method.name}' is for {method.backend} models, {model.source} is a {model.kind} model; "
            f"known for it: {', '.join(fitting)}"
        )
    _check_material(model, recipe)
    if method.solution == "attached":
        _check_attachable(model, recipe)
    scope, measured = check_scope(recipe.scope), measured_rule(recipe.scope)
    scoped = apply_freeze(select(model, recipe.scope, measured=True), recipe.freeze, known=model.tensors())
    if scope.rank is not None:
        scoped = layers_in(model, scoped)
    if measured is not None:
        measured.count(model, scope.top)
    if recipe.save.form == "lora" and method.solution == "trained" and not holds(model, scoped):
        check_lora(model, scoped, _lora_scopes(model))
    request = ErasureRequest.from_recipe(recipe, rows)
    _check_lengths(model, request)
    return Settled(method, scoped, request)


def rehearse(model: Backend, recipe: Recipe, rows: Mapping[str, Sequence[QA]] | None = None) -> Settled:
    """`settle`, and what reading the user's own material and making prompts would refuse; draws nothing."""
    settled = settle(model, recipe, rows)
    settled.method(recipe.method_options(), settled.request)
    PREPARERS.get(model.kind)(model, settled.request, seed=recipe.seed, show_progress=False)
    return settled


def _check_material(model: Backend, recipe: Recipe) -> None:
    """UserError for material that a model of this kind would not look at."""
    data = recipe.data
    if draws(model):
        given: dict[str, Any] = {"forget (--forget)": recipe.forget, "retain, a file of rows": recipe.retain}
        fitting = "concepts (--concept) and prompts"
    else:
        given = {
            "data.pairs (--prompts)": data.pairs,
            "data.path (--data)": data.path,
            "data.retain, prompts": data.retain or None,
        }
        fitting = "rows of questions and answers (--forget, --retain)"
    idle = [name for name, value in given.items() if value is not None]
    if idle:
        raise UserError(
            f"{model.source}: is a {model.kind} model, which reads {fitting}; leave out {', '.join(idle)}"
        )


def _check_lengths(model: Backend, request: ErasureRequest) -> None:
    """A name that is cut stands for something else; a prompt that is cut still says most of it."""
    for concept in request.concepts:
        for word in concept.words:
            refuse_cut(model, word, "the concept")
        refuse_cut(model, concept.anchor, f"concept {concept.name!r}: the anchor")
    for prompts, what in (
        ([pair.target for pair in request.pairs], "target prompts"),
        ([pair.anchor for pair in request.pairs], "anchor prompts"),
        (request.retain, "prompts to retain"),
    ):
        warn_of_cut(model, prompts, what)


def _check_attachable(model: Backend, recipe: Recipe) -> None:
    name = recipe.method["name"]
    if not isinstance(model, Attachable):
        raise UserError(f"method '{name}': nothing can be attached to a {model.kind} model ({model.source})")
    held = model.attachment
    if held is not None and not goes_on(name, held):
        raise UserError(f"{model.source}: '{held.name}' is attached already; open its base instead")
    if recipe.freeze is not None:
        raise UserError(
            f"method '{name}' is attached: it moves no tensor that could be frozen; leave freeze out"
        )


def goes_on(method: str, held: Attachment | type[Attachment]) -> bool:
    """Whether a method of this name goes on with what is attached to a model, or is of this class."""
    return held.name == method and getattr(held, "grows", False)


def _lora_scopes(model: Backend) -> list[str]:
    """The scopes whose every tensor a LoRA can change on this model."""
    found = []
    for name in SCOPES:
        tensors = list(SCOPES.get(name)(model))
        if tensors and holds(model, tensors):
            found.append(name)
    return found
