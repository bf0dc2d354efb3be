"""The folder of a run that is under way: whose run it is, who is at work in it, what a resumed run finds."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import socket
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from oubliette.core.errors import UserError
from oubliette.core.manifest import hash_file, read_object, refuse_existing, write_json
from oubliette.core.writing import make_parents, remove_empty, write_bytes, writing

if TYPE_CHECKING:
    from oubliette.backends.base import Backend
    from oubliette.recipe import Recipe
    from oubliette.train.config import TrainConfig

__all__ = [
    "LOCK_FILES",
    "Unfinished",
    "check_identity",
    "checkpointed",
    "content_hash",
    "identity_of",
    "is_main",
    "locked",
    "note",
    "read_kept",
    "recipe_identity",
    "remove",
    "sealed",
    "unsealed",
    "with_checkpoints",
    "write_kept",
]

_CHECKPOINTS = 10
#: JSON with a digest before it: a flipped bit in a figure is still JSON.
_HEAD, _TAIL = b'{"sha256": "%s", "content": ', b"}\n"
_IDENTITY = "run.json"
_LOCK, _HOLDER = "lock", "lock.json"
#: What is there from the start, and nothing that a run would go on from.
LOCK_FILES = (_LOCK, _HOLDER)
_SAVING = "saving"
_BOOKKEEPING = {_IDENTITY, _LOCK, _HOLDER, _SAVING, "log.jsonl", "stream.json"}
#: What of a recipe may differ between a run and the one that goes on with it: it moves no weight.
_FREE: Any = {
    "name": True,
    "about": True,
    "model": True,
    "save": True,
    "train": {"log_every", "checkpoint_every"},
}


class Unfinished:
    """The folder `OUT.unfinished` of a run that is under way; left where it is if the run is cut short and
    `worth` something: by default, where it holds a checkpoint or a picture.

    One process at a time: a second is refused with UserError, as is a run for an `OUT` that was cut short
    unless it resumes. One that resumes and finds nothing begins, and says so.
    """

    def __init__(self, target: Path, *, resume: bool, worth: Callable[[Path], bool] | None = None) -> None:
        self._worth = worth or _has_parts
        self.folder = target.with_name(f"{target.name}.unfinished")
        there = self.folder.exists()
        if there and is_main():
            with locked(self.folder):  # one that is at work is not one that was cut short
                pass
            if not resume:
                raise UserError(
                    f"{self.folder}: a run for {target} was cut short; --resume goes on with it, "
                    "or remove the folder to start again"
                )
        if resume and not there:
            note(f"{self.folder}: not there, so there is nothing to resume; the run starts")
        self._target, self._made, self._resume = target, list[Path](), resume
        self._lock: Any = None

    def __enter__(self) -> None:
        self._made = make_parents(self._target)
        with writing(self.folder):
            self.folder.mkdir(exist_ok=True)
        self._lock = locked(self.folder)
        self._lock.__enter__()

    def refuse_target(self) -> bool:
        """UserError if the target is there, unless it is what a run that is resumed had come to put there;
        whether it is that.
        """
        if self._resume and self._target.exists() and (self.folder / _SAVING).is_file():
            return True
        refuse_existing(self._target)
        return False

    def saving(self) -> None:
        """Note that the result is about to lie in the target, with something left to be done."""
        if is_main():
            write_bytes(self.folder / _SAVING, b"")

    def claim(self, identity: Mapping[str, Any]) -> None:
        """Note whose run this is; UserError, naming what differs, where the folder holds another's."""
        check_identity(self.folder / _IDENTITY, identity)

    def __exit__(self, kind: Any, *_: Any) -> None:
        try:
            if not is_main():
                return
            saved = (self.folder / _SAVING).is_file() and self._target.exists()
            if kind is not None and (saved or self._worth(self.folder)):
                note(f"{self.folder} holds what was done so far; the same command with --resume goes on")
                return
            remove(self.folder)
            remove_empty(self._made)
        finally:  # held to the end: whoever came between would lose what it began
            self._lock.__exit__(None, None, None)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep other processes out of a folder that is there for the length of the block; of a launch with many
    processes the main one does.

    UserError names the process that holds it and since when. The lock goes with the process, however it ends.
    """
    if not is_main():
        yield
        return
    from filelock import FileLock, Timeout

    lock = FileLock(folder / _LOCK, timeout=0)
    try:
        lock.acquire()
    except Timeout:
        held = folder / _HOLDER
        who = read_object(held) if held.is_file() else {}
        raise UserError(
            f"{folder}: process {who.get('process', '?')} on {who.get('host', '?')} is at work here since "
            f"{who.get('started', '?')}; wait for it, or choose another output folder"
        ) from None
    except OSError as error:
        raise UserError(f"{folder}: cannot be locked ({error.strerror or error})") from error
    try:
        started = datetime.now(timezone.utc).isoformat(timespec="seconds")
        holder = {"process": os.getpid(), "host": socket.gethostname(), "started": started}
        (folder / _HOLDER).write_text(json.dumps(holder), encoding="utf-8")
        yield
    finally:
        lock.release()


def identity_of(recipe: Recipe, model: Backend) -> dict[str, Any]:
    """What two runs must share for one to go on where the other stopped: the whole recipe less logging,
    checkpoints and saving, the model's fingerprint, and the content of every file that the recipe names.
    """
    return {**recipe_identity(recipe, content_hash), "model": model.fingerprint()}


def recipe_identity(recipe: Recipe, hashed: Callable[[Path], str]) -> dict[str, Any]:
    """`identity_of` without the model; `hashed` gives the content of a file or folder."""
    facts = recipe.model_dump(mode="json", exclude=_FREE)
    named = {
        "freeze": recipe.freeze if isinstance(recipe.freeze, str) else None,
        "forget": recipe.forget,
        "retain": recipe.retain,
        "data.pairs": recipe.data.pairs,
        "data.path": recipe.data.path,
        **{f"sources.{name}": path for name, path in recipe.sources.items()},
    }
    content = {key: hashed(Path(path)) for key, path in named.items() if path is not None}
    return {**facts, "content": content}


def content_hash(path: Path) -> str:
    """The sha256 of a file, or over names and contents of a folder's files; "" where there is neither."""
    if path.is_file():
        return hash_file(path)
    digest = hashlib.sha256()
    for file in sorted(entry for entry in path.rglob("*") if entry.is_file()):
        digest.update(f"{file.relative_to(path)}\0{hash_file(file)}\0".encode())
    return digest.hexdigest() if path.is_dir() else ""


def check_identity(path: Path, identity: Mapping[str, Any]) -> None:
    """Write what tells a run from another to `path`, or hold it against what is there: UserError names the
    first difference, with what was found and what is asked for now.
    """
    wanted = json.loads(json.dumps(identity))
    if not path.is_file():
        if is_main():
            write_json(path, wanted)
        return
    difference = _difference(read_object(path), wanted, "")
    if difference is not None:
        raise UserError(
            f"{path.parent}: is another run's: {difference}; resume with what it was begun with, or remove "
            "the folder to start again"
        )


def remove(folder: Path) -> None:
    """Take a run's folder away at one stroke, and then what is in it: a kill leaves no half of it behind."""
    gone = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    os.replace(folder, gone)
    shutil.rmtree(gone, ignore_errors=True)


def note(line: str) -> None:
    """Say something on stderr, from the main process alone."""
    if is_main():
        print(f"oubliette: {line}", file=sys.stderr)


def with_checkpoints(recipe: Recipe, least: int = 1) -> Recipe:
    """The recipe, with a checkpoint now and then where it asks for none (the weights stay the same)."""
    if recipe.train.checkpoint_every:
        return recipe
    return recipe.model_copy(update={"train": checkpointed(recipe.train, least)})


def checkpointed(config: TrainConfig, least: int = 1) -> TrainConfig:
    """The settings of a loop, with a checkpoint now and then, `least` updates apart or more."""
    return config.model_copy(update={"checkpoint_every": max(least, config.steps // _CHECKPOINTS)})


def sealed(content: bytes) -> bytes:
    """JSON with its sha256 before it, still JSON."""
    return _HEAD % hashlib.sha256(content).hexdigest().encode() + content + _TAIL


def unsealed(raw: bytes) -> bytes | None:
    """The JSON that `sealed` was given; None where a bit of it differs."""
    content = raw[len(_HEAD % (b"0" * 64)) : -len(_TAIL)]
    return content if raw == sealed(content) else None


def write_kept(path: Path, content: bytes) -> None:
    """Write JSON with its sha256 before it, atomically, making the folder."""
    write_bytes(path, sealed(content))


def read_kept(path: Path) -> bytes | None:
    """The JSON that `write_kept` wrote; None where there is none, or it is damaged, which is said."""
    if not path.is_file():
        return None
    content = unsealed(path.read_bytes())
    if content is None:
        note(f"{path}: a kept part that is damaged, or of another version; it is made again")
    return content


def is_main() -> bool:
    """Whether this is the process that writes, of those that a launcher started (before torch is loaded)."""
    return os.environ.get("RANK", "0") == "0"


def _has_parts(folder: Path) -> bool:
    return any(path.is_file() and path.name not in _BOOKKEEPING for path in folder.rglob("*"))


def _difference(found: Any, wanted: Any, where: str) -> str | None:
    if isinstance(found, dict) and isinstance(wanted, dict):
        for key in [*wanted, *(set(found) - set(wanted))]:
            inner = _difference(found.get(key), wanted.get(key), f"{where}.{key}" if where else key)
            if inner is not None:
                return inner
        return None
    if isinstance(found, list) and isinstance(wanted, list) and len(found) == len(wanted):
        for index, (then, now) in enumerate(zip(found, wanted, strict=True)):
            inner = _difference(then, now, f"{where}.{index}")
            if inner is not None:
                return inner
        return None
    return None if found == wanted else f"{where} was {_short(found)}, here it is {_short(wanted)}"


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 80 else text[:77] + "..."
