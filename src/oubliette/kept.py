"""Parts of a run kept as JSON with a digest before them: a flipped bit in a figure is still JSON."""

from __future__ import annotations

import hashlib
from pathlib import Path

from oubliette.unfinished import note
from oubliette.writing import write_bytes

__all__ = ["read_kept", "write_kept"]

_HEAD, _TAIL = b'{"sha256": "%s", "content": ', b"}\n"


def write_kept(path: Path, content: bytes) -> None:
    """Write JSON with its sha256 before it, atomically, making the folder."""
    write_bytes(path, _HEAD % hashlib.sha256(content).hexdigest().encode() + content + _TAIL)


def read_kept(path: Path) -> bytes | None:
    """The JSON that `write_kept` wrote; None where there is none, or it is damaged, which is said."""
    if not path.is_file():
        return None
    raw = path.read_bytes()
    content = raw[len(_HEAD % (b"0" * 64)) : -len(_TAIL)]
    if raw == _HEAD % hashlib.sha256(content).hexdigest().encode() + content + _TAIL:
        return content
    note(f"{path}: a kept part that is damaged, or of another version; it is made again")
    return None
