"""A delta: only the tensors that differ from a base, in one safetensors file that says which base."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from oubliette.backends.files.stored import canonical, read_tensors
from oubliette.core.errors import UserError
from oubliette.core.manifest import read_manifest
from oubliette.core.writing import write_tensors

if TYPE_CHECKING:
    from oubliette.backends.base import Backend

DELTA_NAME = "delta.safetensors"


def write_delta(folder: Path, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> Path:
    """Write `tensors` to `delta.safetensors` in `folder`, the `facts` as strings in its header's metadata.

    Values are the new weights themselves, not differences, so that base + delta is exact in any dtype.
    """
    metadata = {"format": "pt", **{key: str(value) for key, value in facts.items() if value is not None}}
    path = folder / DELTA_NAME
    write_tensors(path, tensors, metadata)
    return path


def read_delta(folder: Path | str) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors of a delta folder and its header's metadata; UserError if the file cannot be read."""
    return read_tensors(Path(folder) / DELTA_NAME)


def base_of(folder: Path | str) -> str:
    """What a delta folder's record names as its base: a folder or file beside it, a name or a Hub id."""
    folder = Path(folder)
    base = read_manifest(folder).get("base") or {}
    relative = base.get("relative")
    if relative and (folder / relative).exists():
        return os.path.normpath(folder / relative)
    source = base.get("source")
    if not source or source == "memory":
        raise UserError(
            f"{folder}: its record names no base that can be opened; give the base (--base, or "
            "base=... in Python)"
        )
    return str(source)


def recorded_base(model: Backend) -> str:
    """What the record of an opened model names as its base; UserError where it has none."""
    if not Path(model.source).is_dir():
        raise UserError(
            f"{model.source}: has no record of a base; say what to compare with (--base, in Python base=...)"
        )
    return base_of(model.source)


def base_facts(base_source: str, base_fingerprint: str, folder: Path) -> dict[str, str]:
    """What a record says of the base: its source, its fingerprint, and its place relative to `folder`."""
    facts = {"source": base_source, "fingerprint": base_fingerprint}
    if Path(base_source).exists():
        facts["relative"] = Path(os.path.relpath(base_source, folder.absolute())).as_posix()
    return facts


def check_base(model: Backend, expected: str | None, said: str) -> None:
    """UserError, opened by `said`, if `model` is not the base of fingerprint `expected`; None passes."""
    if not expected or (own := model.fingerprint()) == expected:
        return
    raise UserError(
        f"{said} {expected[:12]}..., but {model.source} has {own[:12]}...; give the right base (--base, or "
        "base=... in Python)"
    )


@torch.no_grad()
def apply_delta(model: Backend, folder: Path | str) -> dict[str, str]:
    """Put a delta's tensors into its base, in place, and return the header's metadata.

    Raises UserError if `model` is not the base the delta was made from (by fingerprint), or lacks a tensor.
    """
    tensors, metadata = read_delta(folder)
    expected = metadata.get("base_fingerprint")
    check_base(model, expected, f"{folder}: was made from a base with fingerprint")
    own = {canonical(name): parameter for name, parameter in model.tensors().items()}
    for name, value in tensors.items():
        parameter = own.get(canonical(name))
        if parameter is None or parameter.shape != value.shape:
            raise UserError(f"{folder}: tensor {name!r} {tuple(value.shape)} has no place in {model.source}")
    for name, value in tensors.items():
        own[canonical(name)].copy_(value)
    return metadata
