"""Requests that are erased one after another, each from the last result: reading and settling them.

A YAML file lists them: `[{concept: car, anchor: object, method: uce}, {concept: dog}]`; a JSONL file has
a record or a request a line (`lines.py`).
"""

from __future__ import annotations

import hashlib
import json
import os
import random
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from oubliette.core.errors import UserError
from oubliette.core.validation import validated
from oubliette.data.words import pattern
from oubliette.recipe import ConceptSpec, Recipe, parse_yaml
from oubliette.workflows.compose import compose
from oubliette.workflows.continual.lines import requests_in
from oubliette.workflows.continual.request import Recorded, StreamRequest
from oubliette.workflows.order import Order
from oubliette.world.world import world_of

if TYPE_CHECKING:
    from oubliette.backends.base import Backend
    from oubliette.data.concept import Concept
    from oubliette.data.questions import QA

__all__ = [
    "Stage",
    "StreamRequest",
    "avoiding",
    "check_carried",
    "permuted",
    "read_requests",
    "refuse_twice",
    "settle",
]

#: Options of the command that only one request can have.
_OF_ONE_REQUEST = ("concept", "anchor", "kind", "prompts", "forget", "data")


@dataclass(frozen=True)
class Stage:
    """A request as it will be run: `name` is its folder's ("01-car"), `earlier` what was erased before it.

    `rows` are those to forget, and `asked` those to be asked afterwards, where the request holds its records
    itself. `order` is what its recipe was composed of.
    """

    number: int
    name: str
    recipe: Recipe
    earlier: tuple[Concept, ...]
    order: Order
    rows: tuple[QA, ...] = ()
    asked: tuple[QA, ...] = ()

    @property
    def concepts(self) -> tuple[Concept, ...]:
        """What it erases."""
        from oubliette.workflows.erase import concepts_in

        return tuple(concepts_in(self.recipe))

    def given(self) -> dict[str, Sequence[QA]]:
        """A language model's rows, by set; {} for one that draws."""
        sets = {"forget": self.forget(), "retain": self.retain()}
        return {name: rows for name, rows in sets.items() if rows}

    def forget(self) -> Sequence[QA]:
        """What a language model is to forget; () for one that draws."""
        return self.rows or _read(self.recipe.forget)

    def retain(self) -> Sequence[QA]:
        """What it is to keep."""
        return _read(self.recipe.retain)

    def questions(self) -> Sequence[QA]:
        """What is asked afterwards of what was to be forgotten."""
        return self.asked or self.forget()

    def digest(self) -> str:
        """A sha256 of the records that the request holds; "" where it holds none."""
        if not self.rows:
            return ""
        said = json.dumps([[asdict(row) | {"where": ""} for row in part] for part in (self.rows, self.asked)])
        return hashlib.sha256(said.encode()).hexdigest()


def read_requests(path: Path | str) -> list[StreamRequest]:
    """The requests of a YAML file, or of a `.jsonl` file, checked one by one; UserError naming the file and
    the request, and for an empty file and an id that comes twice.
    """
    path = Path(path)
    if path.suffix.lower() == ".jsonl":
        held = requests_in(path)
        if not held:
            raise UserError(f"{path}: an empty stream; expected a record or a request a line")
        return refuse_twice(held, str(path))
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{path}: cannot be read ({reason}); expected a YAML list of requests") from error
    found = parse_yaml(text, str(path))
    if not isinstance(found, list) or not found:
        raise UserError(f"{path}: expected a list of requests ([{{concept: car}}]), found {_kind(found)}")
    requests: list[StreamRequest] = []
    for number, entry in enumerate(found, start=1):
        if not isinstance(entry, Mapping):
            raise UserError(
                f"{path}, request {number}: expected a mapping with a concept, found {_kind(entry)}"
            )
        requests.append(validated(StreamRequest, entry, f"{path}, request {number}"))
    return refuse_twice(requests, str(path))


def refuse_twice(requests: Sequence[StreamRequest], where: str) -> list[StreamRequest]:
    """The requests; UserError for an id that two of them have."""
    seen: dict[str, int] = {}
    for number, request in enumerate(requests, start=1):
        first = number if request.id is None else seen.setdefault(request.id, number)
        if first != number:
            raise UserError(
                f"{where}: requests {first} and {number} have the same id, '{request.id}'; name each once"
            )
    return list(requests)


def permuted(requests: Sequence[StreamRequest], seed: int | None) -> list[StreamRequest]:
    """The requests in another order, each whole: its text, its question and its answer move together. None
    leaves them as they are.
    """
    requests = list(requests)
    if seed is not None:
        random.Random(seed).shuffle(requests)
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
    gone: list[ConceptSpec] = []
    width = max(2, len(str(len(requests))))
    for number, request in enumerate(requests, start=1):
        try:
            stage = _settled(model, request, number, shared, tuple(earlier), gone, width)
            check_carried(model, stage, stages)
            _rehearse(model, stage)
        except UserError as error:
            raise UserError(f"request {number}: {error}") from None
        stages.append(stage)
        earlier += stage.concepts
        gone += stage.recipe.concepts
    return stages


def _settled(
    model: Backend,
    request: StreamRequest,
    number: int,
    shared: Order,
    earlier: tuple[Concept, ...],
    gone: Sequence[ConceptSpec],
    width: int,
) -> Stage:
    seed = request.seed if request.seed is not None else (shared.seed or 0) + number - 1
    overrides = [*shared.overrides, *request.set]
    order = replace(shared, **{**request.options(), "seed": seed}, overrides=overrides)
    recipe = avoiding(compose(model, order), gone)
    names = {(spec.kind, spec.name.casefold()) for spec in gone}
    for concept in recipe.concepts:
        if (concept.kind, concept.name.casefold()) in names:
            raise UserError(f"'{concept.name}' was erased by an earlier request already; leave it out")
    label = "-".join(concept.name for concept in recipe.concepts)
    label = label or request.id or Path(recipe.forget or "request").stem
    held = {"rows": request.rows, "asked": request.asked} if isinstance(request, Recorded) else {}
    return Stage(number, f"{number:0{width}d}-{_slug(label)}", recipe, earlier, order, **held)


def avoiding(recipe: Recipe, gone: Sequence[ConceptSpec]) -> Recipe:
    """The recipe, told to avoid what was erased before."""
    return recipe.model_copy(update={"data": recipe.data.model_copy(update={"avoid": list(gone)})})


def _slug(text: str) -> str:
    """A name as part of a folder's: letters, digits and hyphens, in lower case, at most 40."""
    plain = "".join(letter if letter.isalnum() else "-" for letter in text.lower())
    return "-".join(part for part in plain.split("-") if part)[:40].strip("-") or "request"


def check_carried(model: Backend, stage: Stage, before: Sequence[Stage]) -> None:
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
    rehearse(model, recipe.model_copy(update={"policy": None}), stage.given())
    if stage.earlier:
        bank = load_bank(recipe.data.bank or world_of(model).bank)
        for concept in stage.concepts:
            for gone in stage.earlier:
                if pattern(bank.words(gone)).search(concept.anchor):
                    raise UserError(
                        f"the anchor '{concept.anchor}' of '{concept.name}' names '{gone.name}', which an "
                        "earlier request erased; give another anchor"
                    )


def _read(path: str | None) -> Sequence[QA]:
    if path is None:
        return ()
    facts = os.stat(path) if os.path.isfile(path) else None
    return _rows_in(path, None if facts is None else (facts.st_mtime_ns, facts.st_size))


@lru_cache(maxsize=4)
def _rows_in(path: str, written: tuple[int, int] | None) -> tuple[QA, ...]:
    """A file's rows as it was then: every request of a stream asks for the same retain set."""
    from oubliette.data.questions import read_questions

    return tuple(read_questions(path))


def _kind(found: Any) -> str:
    return "nothing" if found is None else f"{type(found).__name__} {yaml.safe_dump(found).splitlines()[0]!r}"
