"""Where a run can be taken up again: one safetensors file, its facts as JSON in the header."""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel
from torch import Tensor

from oubliette.core.errors import UserError
from oubliette.core.manifest import fingerprint
from oubliette.core.writing import write_tensors, writing

__all__ = ["check_same_run", "describe", "has_checkpoint", "read_checkpoint", "write_checkpoint"]

_FILE = "checkpoint.safetensors"
#: The header's entry with a digest of all else in the file, its facts too: a flipped bit is found.
DIGEST = "sha256"


def has_checkpoint(folder: Path | str) -> bool:
    """Whether the folder holds a checkpoint."""
    return (Path(folder) / _FILE).is_file()


def write_checkpoint(folder: Path | str, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
    """Write tensors and facts as one file: whoever reads the folder finds the last checkpoint or this one."""
    folder = Path(folder)
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    # Copied, because safetensors refuses tensors that share memory, as an optimiser's may.
    plain = {name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in tensors.items()}
    said = json.dumps(dict(facts))
    write_tensors(folder / _FILE, plain, {"facts": said, DIGEST: _digest(plain, said)})


def read_checkpoint(
    folder: Path | str, device: torch.device | str = "cpu"
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and facts of the folder's checkpoint; UserError where there is none or it cannot be read."""
    from safetensors import SafetensorError, safe_open

    path = Path(folder) / _FILE
    if not path.is_file():
        raise UserError(f"{folder}: no checkpoint to resume from (expected {_FILE} in it)")
    try:
        with safe_open(path, framework="pt", device=str(device)) as file:
            metadata = file.metadata() or {}
            said = metadata["facts"]
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, KeyError) as error:
        raise UserError(f"{path}: not a checkpoint of a training run ({error})") from None
    if _digest(tensors, said) != metadata.get(DIGEST):
        raise UserError(
            f"{path}: it is not as it was written (its sha256 differs from the header's): "
            "the file was damaged; remove it to go on from what else is kept"
        )
    return tensors, json.loads(said)


def _digest(tensors: Mapping[str, Tensor], facts: str) -> str:
    return hashlib.sha256(f"{fingerprint(tensors)} {facts}".encode()).hexdigest()


def describe(part: object) -> dict[str, Any]:
    """A part's class and the settings it was made with, to tell one run from another."""
    options = getattr(part, "options", None)
    if isinstance(options, BaseModel):
        settings = options.model_dump(mode="json")
    else:
        made_with = inspect.signature(type(part)).parameters
        settings = {name: getattr(part, name) for name in made_with if hasattr(part, name)}
    settings = {
        name: json.dumps(value, sort_keys=True) if isinstance(value, dict) else value
        for name, value in settings.items()
    }
    plain = {name: value for name, value in settings.items() if isinstance(value, int | float | str | None)}
    return {"type": type(part).__name__, **plain}


def check_same_run(folder: Path | str, found: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """UserError naming the first fact in which a checkpoint's run differs from the one to resume it."""
    for key, value in wanted.items():
        there = found.get(key)
        if isinstance(there, dict) and isinstance(value, dict):
            check_same_run(folder, there, value)
        elif there != value:
            raise UserError(f"{folder}: checkpoint of another run: {key} was {there}, here it is {value}")
