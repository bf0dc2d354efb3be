"""A benchmark's folder: it remembers which plan its cells are of, and what each was when it was done."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from oubliette.core.errors import UserError
from oubliette.core.manifest import read_object, refuse_existing, write_json
from oubliette.core.run_folder import LOCK_FILES, locked, note
from oubliette.core.writing import make_parents, write_bytes, writing

__all__ = ["claim", "seal", "whole"]

_FACTS, _WEIGHTS = "plan.json", "weights"


@contextmanager
def claim(
    out: Path, facts: dict[str, Any], differs: Callable[[dict[str, Any]], str | None], base: str | None
) -> Iterator[None]:
    """Write the plan's `facts` and the hash of its base, where it has one, into `out`, made where it is not
    there, and keep other processes out of it for the length of the block.

    `differs` is given the facts that lie there already and names the part in which they are of another
    benchmark, None where they are of this one. UserError then, for a base of other weights, for a folder that
    holds other things, and where another process is at work in it.
    """
    from oubliette.backends import open_model

    if not out.is_dir():
        refuse_existing(out)
        make_parents(out)
    with writing(out):
        out.mkdir(exist_ok=True)
    with locked(out):
        try:
            path, weights = out / _FACTS, "" if base is None else open_model(base).fingerprint()
            if path.is_file():
                before = read_object(path)
                part = differs(before)
                if part is None and before.get(_WEIGHTS, weights) != weights:
                    part = f"{base} (weights {before[_WEIGHTS][:12]}, here {weights[:12]})"
                if part is not None:
                    raise UserError(f"{out}: was begun with another {part}; name another folder")
            elif any(entry.name not in LOCK_FILES for entry in out.iterdir()):
                raise UserError(f"{out}: exists already and holds no benchmark; name another folder")
            write_json(path, {**facts, _WEIGHTS: weights})
            yield
        finally:
            for name in LOCK_FILES:
                (out / name).unlink(missing_ok=True)


def seal(path: Path, *others: Path) -> None:
    """Keep a digest of a cell that is done: of `path`, which says that it is, and of what else it holds."""
    write_bytes(_seal(path), _digest(path, *others).encode())


def whole(path: Path, *others: Path) -> bool:
    """Whether a cell is done, and as it was then (as far as is known); one that is damaged is done again."""
    if not path.is_file():
        return False
    kept = _seal(path)
    if not kept.is_file() or kept.read_bytes() == _digest(path, *others).encode():
        return True
    note(f"{path.parent if others else path}: is not as it was when it was done; it is done again")
    return False


def _seal(path: Path) -> Path:
    return path.with_name(f"{path.name}.sha256")


def _digest(*paths: Path) -> str:
    digest = hashlib.sha256()
    for path in paths:
        digest.update(hashlib.sha256(path.read_bytes() if path.is_file() else b"").digest())
    return digest.hexdigest()
