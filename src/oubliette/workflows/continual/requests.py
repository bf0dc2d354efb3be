"""Requests that are erased one after another, each from the last result: reading and settling them.

A YAML file lists them: `[{concept: car, anchor: object, method: uce}, {concept: dog}]`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from pydantic import Field

from oubliette.core.errors import UserError
from oubliette.core.validation import MAX_SEED, StrictModel, validated
from oubliette.data.words import pattern
from oubliette.recipe import ConceptSpec, Recipe, parse_yaml
from oubliette.workflows.compose import compose
from oubliette.workflows.order import Order
from oubliette.world.world import world_of

if TYPE_CHECKING:
    from oubliette.backends.base import Backend
    from oubliette.data.concept import Concept

__all__ = ["Stage", "StreamRequest", "read_requests", "settle"]

#: Options of the command that only one request can have.
_OF_ONE_REQUEST = ("concept", "anchor", "kind", "prompts", "forget", "data")


class StreamRequest(StrictModel):
    """One request: what `oubliette erase` takes for one, under the same names; left out, the command's own.

    `set` overrides keys of its recipe ("train.steps=50"), after the command's own overrides.
    """

    concept: str | list[str] = Field(default_factory=list)
    anchor: str | list[str] | None = None
    kind: str | list[str] | None = None
    method: str | None = None
    scope: str | None = None
    surgery: str | dict[str, Any] | None = None
    smoother: str | dict[str, Any] | None = None
    seed: int | None = Field(default=None, ge=0, le=MAX_SEED)
    steps: int | None = Field(default=None, ge=1)
    prompts: str | None = None
    retain: str | None = None
    forget: str | None = None
    data: str | None = None
    freeze: str | list[str] | None = None
    set: list[str] = Field(default_factory=list)


@dataclass(frozen=True)
class Stage:
    """A request as it will be run: `name` is its folder's ("01-car"), `earlier` what was erased before it."""

    number: int
    name: str
    recipe: Recipe
    earlier: tuple[Concept, ...]

    @property
    def concepts(self) -> tuple[Concept, ...]:
        """What it erases."""
        from oubliette.workflows.erase import concepts_in

        return tuple(concepts_in(self.recipe))


def read_requests(path: Path | str) -> list[StreamRequest]:
    """The requests of a YAML file, checked one by one; UserError naming the file and the request."""
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{path}: cannot be read ({reason}); expected a YAML list of requests") from error
    found = parse_yaml(text, str(path))
    if not isinstance(found, list) or not found:
        raise UserError(f"{path}: expected a list of requests ([{{concept: car}}]), found {_kind(found)}")
    requests = []
    for number, entry in enumerate(found, start=1):
        if not isinstance(entry, Mapping):
            raise UserError(
                f"{path}, request {number}: expected a mapping with a concept, found {_kind(entry)}"
            )
        requests.append(validated(StreamRequest, entry, f"{path}, request {number}"))
    return requests


def settle(model: Backend, requests: Sequence[StreamRequest], shared: Order | None = None) -> list[Stage]:
    """Every request as a checked recipe, before anything is erased; `shared` is ordered for all of them.

    A request's own options go before those for all. Its seed, where it gives none, is the stream's plus its
    place from 0. Every stage is told to avoid what was erased before it: none of its prompts, anchors and
    pictures names an earlier concept. Raises UserError, naming the request, for what cannot be run; for a
    concept that comes twice; for an anchor that was itself erased; and for what no later request can build
    on: attached methods, but for those whose attachment grows, which have a stream of their own.
    """
    shared = shared or Order()
    for name in _OF_ONE_REQUEST:
        if getattr(shared, name) not in (None, (), []):
            raise UserError(f"--{name} belongs to one request: give it in the stream's file")
    stages: list[Stage] = []
    earlier: list[Concept] = []
    for number, request in enumerate(requests, start=1):
        try:
            stage = _settled(model, request, number, shared, tuple(earlier))
            _check_carried(model, stage, stages)
            _rehearse(model, stage)
        except UserError as error:
            raise UserError(f"request {number}: {error}") from None
        stages.append(stage)
        earlier += stage.concepts
    return stages


def _settled(
    model: Backend,
    request: StreamRequest,
    number: int,
    shared: Order,
    earlier: tuple[Concept, ...],
) -> Stage:
    own = request.model_dump(exclude_none=True, exclude={"set"})
    own["seed"] = request.seed if request.seed is not None else (shared.seed or 0) + number - 1
    overrides = [*shared.overrides, *request.set]
    recipe = compose(model, replace(shared, **own, overrides=overrides))
    gone = [ConceptSpec.model_validate(asdict(concept)) for concept in earlier]
    recipe = recipe.model_copy(update={"data": recipe.data.model_copy(update={"avoid": gone})})
    names = {(concept.kind, concept.name.casefold()) for concept in earlier}
    for concept in recipe.concepts:
        if (concept.kind, concept.name.casefold()) in names:
            raise UserError(f"'{concept.name}' was erased by an earlier request already; leave it out")
    label = "-".join(concept.name for concept in recipe.concepts) or Path(recipe.forget or "request").stem
    return Stage(number, f"{number:02d}-{_slug(label)}", recipe, earlier)


def _slug(text: str) -> str:
    """A name as part of a folder's: letters, digits and hyphens, in lower case, at most 40."""
    plain = "".join(letter if letter.isalnum() else "-" for letter in text.lower())
    return "-".join(part for part in plain.split("-") if part)[:40].strip("-") or "request"


def _check_carried(model: Backend, stage: Stage, before: Sequence[Stage]) -> None:
    """UserError where a request cannot build on those before it, or on what is attached to the model."""
    from oubliette.backends.attachment import ATTACHMENTS
    from oubliette.erase import METHODS
    from oubliette.erase.rehearse import goes_on

    method = METHODS.get(stage.recipe.method["name"])
    if method.solution == "attached" and not (
        method.name in ATTACHMENTS and goes_on(method.name, ATTACHMENTS.get(method.name))
    ):
        raise UserError(
            f"method '{method.name}' is attached: no later request can build on it; erase with it last"
        )
    first = METHODS.get(before[0].recipe.method["name"]) if before else method
    if first is not method and "attached" in (first.solution, method.solution):
        raise UserError(
            f"method '{method.name}' cannot go on from '{first.name}': a stream either changes weights or "
            "grows one attachment"
        )
    held = getattr(model, "attachment", None)
    if held is not None and not goes_on(method.name, held):
        raise UserError(
            f"{model.source}: '{held.name}' is attached, which '{method.name}' cannot build on; open its base"
        )


def _rehearse(model: Backend, stage: Stage) -> None:
    """Everything that erasing would refuse, without erasing: names, files, scope, prompts."""
    from oubliette.data.prompts import load_bank
    from oubliette.erase.rehearse import rehearse

    recipe = stage.recipe
    rehearse(model, recipe)
    if stage.earlier:
        bank = load_bank(recipe.data.bank or world_of(model).bank)
        for concept in stage.concepts:
            for gone in stage.earlier:
                if pattern(bank.words(gone)).search(concept.anchor):
                    raise UserError(
                        f"the anchor '{concept.anchor}' of '{concept.name}' names '{gone.name}', which an "
                        "earlier request erased; give another anchor"
                    )


def _kind(found: Any) -> str:
    return "nothing" if found is None else f"{type(found).__name__} {yaml.safe_dump(found).splitlines()[0]!r}"
