"""What is illegal and what innocent, by name: a folder of pictures, a file of questions, a known concept."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from oubliette.core.errors import UserError
from oubliette.data.concept import Concept
from oubliette.data.text import check_text
from oubliette.train.finetune import SupervisedData

__all__ = ["Opened", "Source", "open_all", "open_source", "read_source"]


@dataclass(frozen=True)
class Source:
    """One set of data as a user names it: "FOLDER", "NAME=FOLDER", or a concept of the model's world.

    `name` is what pictures without a caption are captioned with.
    """

    text: str
    name: str
    path: Path | None


@dataclass(frozen=True)
class Opened:
    """Data ready to be trained on, with what a record says of it: where from, how many rows, their hash."""

    data: SupervisedData
    facts: dict[str, Any]
    skipped: tuple[tuple[str, str], ...] = ()


def read_source(text: str) -> Source:
    """The source a user wrote; UserError for an empty one and a folder that is not there."""
    name, sign, place = text.partition("=")
    if not sign:
        place, name = text, ""
    if not text.strip() or (sign and not (name.strip() and place.strip())):
        raise UserError(f"data {text!r}: expected a folder, NAME=FOLDER, or a concept of the model's world")
    check_text(text, "data")
    path = Path(place)
    if _there(path):
        return Source(text, name.strip() or path.stem.replace("_", " ").replace("-", " "), path)
    if sign or "/" in place:
        raise UserError(f"data {text!r}: no such folder or file: {place!r}")
    return Source(text, text.strip(), None)


def _there(path: Path) -> bool:
    """Whether a path exists; a concept's name that no file could have is none."""
    try:
        return path.exists()
    except OSError:
        return False


def open_source(
    model: Any,
    source: Source,
    *,
    count: int,
    seed: int = 0,
    kind: str | None = None,
    identifier: str | None = None,
) -> Opened:
    """The source's rows for this model, the first `count` of them.

    Pictures come from a folder or parquet file, or are painted by the model's world with `seed`; questions
    from JSONL. `identifier` captions pictures as DreamBooth does. UserError for what cannot be read, holds
    nothing, or is no concept of the world.
    """
    return _OPENERS[model.kind](model, source, count, seed, kind, identifier)


def _pictures(
    model: Any, source: Source, count: int, seed: int, kind: str | None, identifier: str | None
) -> Opened:
    from oubliette.attack.material import from_folder, from_world

    concept = _concept(model, source, kind)
    if source.path is not None:
        found = from_folder(source.path, model.picture_side, count=count, concept=concept)
    else:
        found = from_world(concept, model.picture_side, count=count, seed=seed)
    if identifier is not None:
        found = found.identified(concept, identifier)
    digest = hashlib.sha256(found.pictures.tobytes() + "\n".join(found.captions).encode()).hexdigest()
    where = source.path.name if source.path is not None else found.where
    facts = {"name": source.name, "from": where, "rows": len(found), "sha256": digest}
    return Opened(found.data(model), facts, found.skipped)


def _questions(
    model: Any, source: Source, count: int, seed: int, kind: str | None, identifier: str | None
) -> Opened:
    from oubliette.data.questions import read_questions
    from oubliette.train.tasks.answering import Answering

    if source.path is None:
        raise UserError(
            f"data {source.text!r}: no such file; a language model learns from JSONL of questions"
        )
    if identifier is not None:
        raise UserError("an identifier captions pictures; a language model has none")
    rows = read_questions(source.path)[:count]
    digest = hashlib.sha256(repr([row.facts() for row in rows]).encode()).hexdigest()
    facts = {"name": source.name, "from": source.path.name, "rows": len(rows), "sha256": digest}
    return Opened(Answering(model, rows), facts)


def _concept(model: Any, source: Source, kind: str | None) -> Concept:
    """The concept of a source: as the world knows it, else as named."""
    from oubliette.data.concepts import make_concepts

    if source.path is None:
        if model.world is None:
            raise UserError(
                f"data {source.text!r}: no such folder or file, and {model.source} is of no world that could "
                "paint it"
            )
        return make_concepts(model, [source.name], None, kind)[0]
    return Concept(source.name, "", kind or "object")


_OPENERS: dict[str, Callable[..., Opened]] = {"diffusion": _pictures, "language": _questions}


def open_all(
    model: Any, texts: Iterable[str], *, count: int, seed: int = 0, kind: str | None = None
) -> Sequence[Opened]:
    """Every source of a side, in order."""
    return [open_source(model, read_source(text), count=count, seed=seed, kind=kind) for text in texts]
