"""Reading JSON back into the dataclasses it was written from."""

from __future__ import annotations

from typing import TypeVar

from pydantic import TypeAdapter, ValidationError

from oubliette.core.errors import UserError

T = TypeVar("T")


def read_json(cls: type[T], text: str, *, what: str, version: str, expected: str) -> T:
    """The dataclass that a text holds; UserError where a field does not fit or `format` is not `version`."""
    try:
        found = TypeAdapter(cls).validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the whole"
        raise UserError(f"{what}: {where}: {first['msg']}; expected {expected}") from error
    written = getattr(found, "format", None)
    if written != version:
        raise UserError(f"{what}: format {written!r} is not {version!r}")
    return found
