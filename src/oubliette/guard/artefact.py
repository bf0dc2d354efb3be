"""A mask on disk: `guard.json`, which ends in a digest of itself, `scores.safetensors` and the Hub's card."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from oubliette.core.errors import UserError
from oubliette.core.manifest import atomic_folder
from oubliette.guard.canonical import one_line

if TYPE_CHECKING:
    from pydantic import TypeAdapter

    from oubliette.guard.mask import Mask

__all__ = ["JSON_NAME", "SCORES_NAME", "content_digest", "make_schema", "read", "schema", "write_mask"]

JSON_NAME = "guard.json"
SCORES_NAME = "scores.safetensors"
CARD_NAME = "README.md"
LARGEST = 256 << 20  # bytes of a file that is read whole; a mask of 100 000 tensors has 60 MB
# The last lines of guard.json; the digest is the sha256 of every byte before them.
_TAIL = re.compile(rb' "digest": "([0-9a-f]{64})"\n\}\n')
_TAIL_LENGTH = len(' "digest": ""\n}\n') + 64


def content_digest(mask: Mask) -> str:
    """The sha256 over everything in a mask's `guard.json` but the digest itself."""
    return hashlib.sha256(_head(mask)).hexdigest()


def write_mask(mask: Mask, folder: Path, *, card: bool, licence: str | None) -> None:
    """Write the folder atomically; see `Mask.write`."""
    from oubliette.guard.mask import FORMAT

    head = _head(mask)
    digest = hashlib.sha256(head).hexdigest()
    whole = head + f' "digest": "{digest}"\n}}\n'.encode()
    _checked(whole, f"mask for {mask.base.source}", FORMAT)  # what is written is what can be read
    with atomic_folder(folder) as target:
        (target / JSON_NAME).write_bytes(whole)
        if mask.scores is not None:
            (target / SCORES_NAME).write_bytes(_scores_bytes(mask.scores))
        if card:
            from oubliette.guard.card import card_text

            (target / CARD_NAME).write_text(card_text(mask, licence=licence), encoding="utf-8")


def read(path: Path) -> Mask:
    """The mask in a folder or a `guard.json`; see `oubliette.guard.mask.read_mask`."""
    from oubliette.guard.mask import FORMAT, check_mask

    try:
        path = path.expanduser()
        where = path / JSON_NAME if path.is_dir() else path
    except (OSError, RuntimeError, ValueError) as error:  # a name too long, no such home, a null character
        raise UserError(f"{one_line(path)}: cannot be read ({one_line(error)})") from error
    scores_path = where.parent / SCORES_NAME
    raw = _bytes(where, f"expected a mask's folder with a {JSON_NAME}")
    found, said = _checked(raw, str(where), FORMAT)
    if said is not None:
        found = replace(found, scores=_read_scores(scores_path, said, str(where)))
    elif scores_path.exists():
        raise UserError(f"{scores_path}: is no part of the mask, whose {JSON_NAME} names no scores")
    check_mask(found, str(where))
    return found


def make_schema() -> dict[str, Any]:
    """The JSON schema of `guard.json` (draft 2020-12)."""
    from pydantic.json_schema import GenerateJsonSchema

    from oubliette.guard.mask import FORMAT

    made = _adapter().json_schema()
    sha256 = {"type": "string", "pattern": "^[0-9a-f]{64}$"}
    made["properties"] = {
        "format": {"const": FORMAT},
        **made["properties"],
        "scores": {
            "anyOf": [
                {
                    "type": "object",
                    "properties": {"file": {"const": SCORES_NAME}, "sha256": sha256},
                    "required": ["file", "sha256"],
                    "additionalProperties": False,
                },
                {"type": "null"},
            ],
            "description": "The file with a float64 scalar a candidate, and its sha256.",
        },
        "digest": {**sha256, "description": "sha256 of every byte of the file before this line."},
    }
    made["required"] = list(made["properties"])
    return {
        "$schema": GenerateJsonSchema.schema_dialect,
        "$id": f"https://oubliette.invalid/{FORMAT}.json",
        **made,
    }


def schema() -> dict[str, Any]:
    """The published schema, as it ships."""
    loaded: dict[str, Any] = json.loads((files("oubliette.guard") / "schema.json").read_text("utf-8"))
    return loaded


@cache
def _adapter() -> TypeAdapter[Mask]:
    from pydantic import TypeAdapter

    from oubliette.guard.mask import Mask

    return TypeAdapter(Mask)


def _head(mask: Mask) -> bytes:
    from oubliette.guard.mask import FORMAT

    scores = None
    if mask.scores is not None:
        digest = hashlib.sha256(_scores_bytes(mask.scores)).hexdigest()
        scores = {"file": SCORES_NAME, "sha256": digest}
    content = {"format": FORMAT, **mask.to_dict(), "scores": scores}
    text = json.dumps(content, indent=1, ensure_ascii=True, allow_nan=False)
    return (text.removesuffix("\n}") + ",\n").encode("ascii")


def _bytes(path: Path, otherwise: str) -> bytes:
    try:
        if path.is_file() and path.stat().st_size > LARGEST:
            raise UserError(f"{path}: has {path.stat().st_size} bytes; a mask's files have {LARGEST} at most")
        return path.read_bytes()
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; {otherwise}") from None
    except (OSError, ValueError) as error:  # ValueError: a path with a null character
        raise UserError(f"{one_line(path)}: cannot be read ({one_line(error)}); {otherwise}") from error


def _checked(raw: bytes, where: str, version: str) -> tuple[Mask, str | None]:
    """The mask of a guard.json right in form, digest and types, without its scores; the digest of those."""
    content = _json(raw, where)
    if content.get("format") != version:
        raise UserError(
            f"{where}: format {_short(content.get('format'))} is not '{version}'; no mask of this version"
        )
    tail = _TAIL.fullmatch(raw[-_TAIL_LENGTH:])
    if tail is None:
        raise UserError(
            f"{where}: does not end in its digest; it was changed or cut short after it was written"
        )
    digest = hashlib.sha256(raw[:-_TAIL_LENGTH]).hexdigest()
    if digest != tail[1].decode():
        raise UserError(
            f"{where}: was changed after it was written: its content has sha256 {digest[:12]}..., "
            f"its digest says {tail[1].decode()[:12]}..."
        )
    return _validated(content, where), _scores_digest(content, where)


def _json(raw: bytes, where: str) -> dict[str, Any]:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        made = dict(pairs)
        if len(made) != len(pairs):
            names = [name for name, _ in pairs]
            twice = next(name for name in names if names.count(name) > 1)
            raise ValueError(f"key {_short(twice)} stands twice in one object")
        return made

    def finite(text: str) -> float:
        if not math.isfinite(value := float(text)):
            raise ValueError(f"number {_short(text)} is not finite")
        return value

    try:
        content = json.loads(
            raw.decode("utf-8"), object_pairs_hook=unique, parse_float=finite, parse_constant=finite
        )
    except RecursionError:
        raise UserError(f"{where}: not readable as JSON (nested too deep)") from None
    except ValueError as error:  # decoding of bytes and of JSON, and the above
        raise UserError(f"{where}: not readable as JSON ({one_line(error)})") from error
    if not isinstance(content, dict):
        raise UserError(f"{where}: found a {type(content).__name__}, expected a JSON object")
    return content


def _validated(content: Mapping[str, Any], where: str) -> Mask:
    from pydantic import ValidationError

    body = {key: value for key, value in content.items() if key not in ("format", "digest", "scores")}
    try:
        return _adapter().validate_json(json.dumps(body), strict=True)
    except (ValidationError, RecursionError) as error:
        raise UserError(f"{where}: {_reason(error)}") from None


def _scores_digest(content: Mapping[str, Any], where: str) -> str | None:
    said = content.get("scores", "nothing")
    if said is None:
        return None
    if (
        isinstance(said, dict)
        and set(said) == {"file", "sha256"}
        and said["file"] == SCORES_NAME
        and isinstance(said["sha256"], str)
    ):
        return str(said["sha256"])
    raise UserError(f"{where}: 'scores' is {_short(said)}, expected null or '{SCORES_NAME}' with its sha256")


def _reason(error: Exception) -> str:
    from pydantic import ValidationError

    if not isinstance(error, ValidationError):
        return "nested too deep"
    first = error.errors(include_url=False)[0]
    place = one_line(".".join(str(part) for part in first["loc"])) or "the whole"
    if first["type"] in ("missing", "extra_forbidden", "unexpected_keyword_argument"):
        return f"'{place}' is {'missing' if first['type'] == 'missing' else 'an unknown key'}"
    return f"'{place}': {one_line(first['msg'])}, found {_short(first['input'])}"


def _short(value: Any) -> str:
    text = ascii(value) if not isinstance(value, (dict, list)) else f"a {type(value).__name__}"
    return text if len(text) <= 60 else text[:57] + "..."


def _scores_bytes(scores: Mapping[str, float]) -> bytes:
    """A safetensors file with one float64 scalar a name; the same bytes for the same scores."""
    import numpy as np
    from safetensors.numpy import save

    arrays = {name: np.array(value, dtype=np.float64) for name, value in scores.items()}
    return bytes(save(arrays, metadata={"format": "oubliette-guard-scores/1"}))


def _read_scores(path: Path, expected: str, where: str) -> dict[str, float]:
    from safetensors import SafetensorError
    from safetensors.numpy import load

    raw = _bytes(path, f"{where} says that the mask has scores")
    digest = hashlib.sha256(raw).hexdigest()
    if digest != expected:
        raise UserError(
            f"{path}: has sha256 {digest[:12]}..., {where} says {_short(expected)[1:13]}...; it was changed"
        )
    try:
        found = load(raw)
    except (
        SafetensorError,
        KeyError,
        TypeError,
        ValueError,
        AttributeError,
    ) as error:  # or a dtype numpy lacks
        raise UserError(f"{path}: not a readable safetensors file ({one_line(error)})") from error
    for name, value in found.items():
        if value.dtype != "float64" or value.shape != ():
            raise UserError(
                f"{path}: score {_short(name)} is {value.dtype} {value.shape}, not a float64 scalar"
            )
    return {name: float(value) for name, value in found.items()}
