"""What a user wrote, checked against a typed model: errors name the place and the nearest right key."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, ValidationError, create_model

from oubliette.core.errors import UserError, suggest

__all__ = ["MAX_SEED", "StrictModel", "call_checked", "settings", "user_path", "validated"]

#: What a generator of random numbers takes for certain, and the highest seed of the field's tables.
MAX_SEED = 2**63 - 1

_SCIENTIFIC = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)[eE][+-]?\d+")

M = TypeVar("M", bound=BaseModel)
T = TypeVar("T")


class StrictModel(BaseModel):
    """A pydantic model that refuses unknown keys and cannot be changed after it was checked."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


def validated(model: type[M], data: Mapping[str, Any], where: str) -> M:
    """Build `model` from `data`; `where` ("recipe doco.yaml") opens the UserError's line when that fails."""
    try:
        return model.model_validate(dict(data))
    except ValidationError as error:
        raise UserError(f"{where}: {_first_line(model, error)}") from None


def settings(changes: Iterable[str]) -> dict[str, Any]:
    """What "key=value" pairs of a command line say, values read as YAML; UserError for one without a key."""
    import yaml

    found: dict[str, Any] = {}
    for change in changes:
        key, sign, value = change.partition("=")
        if not key.strip() or not sign:
            raise UserError(f"{change}: expected key=value, as in steps=50")
        try:
            read = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise UserError(f"{change}: the value cannot be read ({' '.join(str(error).split())})") from None
        # YAML takes 1e-4 for a word.
        found[key.strip()] = float(read) if isinstance(read, str) and _SCIENTIFIC.fullmatch(read) else read
    return found


def user_path(text: Path | str) -> Path:
    """A path as the user wrote it, with `~` and `~name` resolved; UserError where there is no such home."""
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        raise UserError(f"'{text}': {error} Write ./{text} for a file of that name") from error


def call_checked(target: Callable[..., T], options: Mapping[str, Any], where: str) -> T:
    """Call `target(**options)` after checking the names and types of the options against its signature."""
    fields: dict[str, Any] = {
        name: (
            Any if parameter.annotation is parameter.empty else parameter.annotation,
            ... if parameter.default is parameter.empty else parameter.default,
        )
        for name, parameter in inspect.signature(target, eval_str=True).parameters.items()
    }
    schema = create_model("Options", __base__=StrictModel, **fields)
    checked = validated(schema, options, where)
    return target(**{name: getattr(checked, name) for name in fields})


def _first_line(model: type[BaseModel], error: ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    place = ".".join(str(part) for part in first["loc"]) or "the whole"
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    if first["type"] == "extra_forbidden":
        key = str(first["loc"][-1])
        return f"unknown key '{place}'; {suggest(key, _keys_at(model, first['loc'][:-1]))}{more}"
    if first["type"] == "missing":
        return f"'{place}' is missing{more}"
    message = str(first["msg"]).removeprefix("Value error, ")
    return f"'{place}': {message}, found {first['input']!r}{more}"


def _keys_at(model: type[BaseModel], location: tuple[int | str, ...]) -> list[str]:
    """The keys that are known at a place inside `model`."""
    current: type[BaseModel] = model
    for part in location:
        if isinstance(part, int) or part not in current.model_fields:
            continue
        found = _model_in(current.model_fields[part].annotation)
        if found is None:
            return []
        current = found
    return list(current.model_fields)


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for inner in get_args(annotation):
        found = _model_in(inner)
        if found is not None:
            return found
    return None
