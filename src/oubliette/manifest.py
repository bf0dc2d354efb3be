"""What lies beside every artefact: the record of how it came about, and hashes of what it holds."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from oubliette import __version__
from oubliette.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

RECORD_NAME = "oubliette.json"
_LIBRARIES = ("torch", "diffusers", "transformers", "accelerate", "peft", "open-clip-torch", "safetensors")
_CHUNK = 1 << 20


def record(**facts: Any) -> dict[str, Any]:
    """Facts about a run as a JSON-able dict: library versions, time, processes, then whatever is given.

    `processes` is the number of processes of the launch (environment variable WORLD_SIZE, 1 without a
    launcher), because results of some methods depend on it. Versions are read from the installed packages'
    metadata, so no heavy library is imported. Given facts win over the defaults.
    """
    versions: dict[str, str] = {"oubliette": __version__, "python": platform.python_version()}
    for name in _LIBRARIES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue  # an optional library that is not installed has no version to record
    made: dict[str, Any] = {
        "versions": versions,
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "processes": int(os.environ.get("WORLD_SIZE", "1")),
        "seed": None,
    }
    made.update(facts)
    return made


def write_json(path: Path | str, content: Any) -> None:
    """Write `content` as indented JSON to `path` atomically: the old file or the new, never half of it."""
    path = Path(path)
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as out:
            json.dump(content, out, indent=2, ensure_ascii=False, default=_plain)
            out.write("\n")
        share(temporary)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def write_manifest(folder: Path | str, content: Mapping[str, Any]) -> Path:
    """Write `content` to `oubliette.json` in `folder` atomically and return the file's path."""
    path = Path(folder) / RECORD_NAME
    write_json(path, dict(content))
    return path


def read_manifest(folder: Path | str) -> dict[str, Any]:
    """Read `oubliette.json` in `folder`; {} where there is none, UserError where it is not a JSON object."""
    path = Path(folder) / RECORD_NAME
    return read_object(path) if path.is_file() else {}


def read_object(path: Path) -> dict[str, Any]:
    """The JSON object in a file that is there; UserError where it holds anything else."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error})") from error
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UserError(f"{path}: not readable as JSON ({error})") from error
    if not isinstance(content, dict):
        raise UserError(f"{path}: found a {type(content).__name__}, expected a JSON object")
    return content


def refuse_existing(path: Path | str) -> None:
    """Raise UserError if `path` is there already (an empty folder is as good as none)."""
    path = Path(path)
    if path.is_symlink() or (path.exists() and not (path.is_dir() and not any(path.iterdir()))):
        raise UserError(f"{path}: exists already; choose another output folder or remove this one")


@contextmanager
def atomic_folder(path: Path | str) -> Iterator[Path]:
    """Give a temporary sibling folder that becomes `path` when the block ends well, and goes if it does not.

    Raises UserError if `path` exists (an empty folder excepted), both before and after the block. Parent
    folders are made, and removed again on failure where this call made them.
    """
    path = Path(path)
    refuse_existing(path)
    made_parents = []
    parent = path.absolute().parent
    while not parent.exists():
        made_parents.append(parent)
        parent = parent.parent
    try:
        path.absolute().parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{path}: cannot be made ({error.strerror or error})") from error
    temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.absolute().parent))
    try:
        temporary.chmod(0o777 & ~_umask())
        yield temporary
        refuse_existing(path)
        os.replace(temporary, path.absolute())
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        for parent in made_parents:
            if parent.is_dir() and not any(parent.iterdir()):
                parent.rmdir()
        raise


def share(path: Path | str) -> None:
    """Give a file made with private permissions (0600) those that an ordinarily written file has."""
    os.chmod(path, 0o666 & ~_umask())


def hash_file(path: Path | str) -> str:
    """The sha256 of a file's bytes, as 64 hex digits."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def fingerprint(tensors: Mapping[str, Tensor]) -> str:
    """The sha256 (64 hex digits) over the tensors' names, dtypes, shapes and raw bytes, in order of names."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        update_digest(digest, name, tensors[name])
    return digest.hexdigest()


def update_digest(digest: Any, name: str, tensor: Tensor) -> None:
    """Add one tensor's name, dtype, shape and raw bytes to a hashlib digest (for streams of tensors)."""
    import torch

    digest.update(f"{name}\0{str(tensor.dtype).removeprefix('torch.')}\0{list(tensor.shape)}\0".encode())
    raw = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
    digest.update(raw.numpy())


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _plain(value: Any) -> Any:
    """JSON for what records carry besides plain types: paths, numpy and torch scalars, dtypes, models,
    sets.
    """
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json")
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, (set, frozenset)):
        return sorted(value)
    if type(value).__module__ == "torch":
        return str(value)
    raise TypeError(f"cannot write {type(value).__name__} to JSON")
