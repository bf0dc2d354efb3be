"""What lies beside every artefact: the record of how it came about, and hashes of what it holds."""

from __future__ import annotations

import errno
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
from oubliette.core.errors import UserError, doing
from oubliette.core.writing import draft, parents, writing
from oubliette.core.writing import share as share

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
    text = json.dumps(content, indent=2, ensure_ascii=False, default=_plain) + "\n"
    with draft(path) as temporary:
        # Bytes of a file's name that are no UTF-8 become JSON's own escapes.
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace")


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
    """Raise UserError where nothing new can be written at `path`: it is there already, or its folder is no
    folder or takes nothing (an empty folder at `path` is as good as none).
    """
    path = Path(path)
    if path.name in ("", "..") or "\0" in str(path):
        raise UserError(f"'{path}': is no name for a new folder or file")
    with writing(path):
        if path.is_symlink() or (path.exists() and not (path.is_dir() and not any(path.iterdir()))):
            raise UserError(f"{path}: exists already; choose another output folder or remove this one")
        folder = path.absolute().parent
        while not folder.exists():
            folder = folder.parent
        if not folder.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(folder))
        if not os.access(folder, os.W_OK | os.X_OK):
            read_only = hasattr(os, "statvfs") and os.statvfs(folder).f_flag & os.ST_RDONLY
            code = errno.EROFS if read_only else errno.EACCES
            raise OSError(code, os.strerror(code), str(folder))


@contextmanager
def atomic_folder(path: Path | str) -> Iterator[Path]:
    """Give a temporary sibling folder that becomes `path` when the block ends well, and goes if it does not.

    Raises UserError if `path` exists (an empty folder excepted), both before and after the block, and where
    the disk takes no more. Parent folders are made, which is said, and removed again on failure where this
    call made them.
    """
    path = Path(path)
    refuse_existing(path)
    with doing(f"writing {path}"), parents(path), writing(path):
        whole = path.absolute()
        temporary = Path(tempfile.mkdtemp(prefix=f".{path.name[:40]}.", suffix=".tmp", dir=whole.parent))
        try:
            temporary.chmod(0o777 & ~_umask())
            yield temporary
            refuse_existing(path)
            os.replace(temporary, whole)
        except UserError as error:
            shutil.rmtree(temporary, ignore_errors=True)
            # A file of the draft is known to the user by the place it was to have.
            raise UserError(str(error).replace(str(temporary), str(path))) from error
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise


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
