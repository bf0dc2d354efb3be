"""What one attack on one subject gave, as it is kept on disk: gold's parts serve every later audit."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from oubliette import __version__
from oubliette.audit.result import Found, Reading, RowResult
from oubliette.core.run_folder import note, read_kept, write_kept
from oubliette.eval.rows import control_name

__all__ = ["AttackCache", "AttackRun", "Exhibit", "RowOutput", "key_of", "read_output", "write_output"]

_FORMAT = "oubliette-audit-part/1"
T = TypeVar("T")


@dataclass(frozen=True)
class Exhibit:
    """A picture or an answer for the page: whose it is, after how many steps (or after which attack), and
    what was asked for.

    `png` is base64, at most `oubliette.audit.samples.SIDE` pixels wide, and "" of a `text`; `found` is the
    judge's word.
    """

    subject: str
    column: str
    prompt: str
    seed: int
    png: str
    found: bool
    text: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "subject", control_name(self.subject))  # of older files


@dataclass(frozen=True)
class AttackRun:
    """One attack on one subject: readings of a curve or findings, one dict a picture, and pictures for the
    page.

    `hits` are the judge's booleans behind each finding, in the order of cases.
    """

    readings: list[Reading] = field(default_factory=list)
    found: list[Found] = field(default_factory=list)
    hits: list[list[int]] = field(default_factory=list)
    samples: list[dict[str, Any]] = field(default_factory=list)
    exhibits: list[Exhibit] = field(default_factory=list)
    note: str = ""
    csv: str = ""


@dataclass(frozen=True)
class RowOutput:
    """A row's result with what goes elsewhere than into audit.json: samples, pictures, files by name,
    seconds.
    """

    row: RowResult
    samples: list[dict[str, Any]]
    exhibits: list[Exhibit]
    seconds: float
    files: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    format: str = _FORMAT


class AttackCache:
    """Parts by a hash of all that they depend on: in memory, and those of gold in a folder.

    A part that cannot be read (another version's, or half of it) counts as none and is made again.
    """

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder
        self._memory: dict[str, AttackRun] = {}

    def get(self, key: str, make: Callable[[], AttackRun], *, keep: bool) -> AttackRun:
        """The part of this key, made and remembered if it is not there; `keep` writes it to the folder."""
        path = None if self.folder is None else self.folder / f"{key}.json"
        part = self._memory.get(key)
        if part is None and path is not None:
            part = _read(AttackRun, path)
        kept = part is not None and path is not None and path.is_file()
        if part is None:
            part = make()
        if keep and path is not None and not kept:
            write_kept(path, TypeAdapter(AttackRun).dump_json(part))
        self._memory[key] = part
        return part


def key_of(**facts: Any) -> str:
    """A hash of facts that are plain data, and of this package's version."""
    text = json.dumps({"format": _FORMAT, "version": __version__, **facts}, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def write_output(path: Path, output: RowOutput) -> None:
    """Write a row's output atomically."""
    write_kept(path, TypeAdapter(RowOutput).dump_json(output, indent=1))


def read_output(path: Path) -> RowOutput | None:
    """A row's output, None where there is none that can be read."""
    return _read(RowOutput, path)


def _read(cls: type[T], path: Path) -> T | None:
    content = read_kept(path)
    try:
        return None if content is None else TypeAdapter(cls).validate_json(content)
    except ValidationError:
        note(f"{path}: a kept part of another version; it is made again")
        return None
