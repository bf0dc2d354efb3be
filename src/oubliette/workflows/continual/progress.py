"""How far a stream has come, on disk: what model and policy have become, in one file that is replaced."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from oubliette.train.checkpoint import has_checkpoint, read_checkpoint, write_checkpoint

if TYPE_CHECKING:
    from torch import Tensor

    from oubliette.erase.policy import Policy
    from oubliette.workflows.continual.carried import Carried

__all__ = ["Progress"]

_SHARE = 10  # a write may take a tenth of the time since the last one: what a kill costs is that much again
_MODEL, _POLICY, _LATEST = "model.", "policy.", "latest"


class Progress:
    """The `done` first requests of a stream, what is on record of each, and the state after them.

    Written when a stage's own folder is, beside it, and else when the last write is long enough ago, in the
    place of the last; requests since then are run again after a kill, which gives the same bits. Where a
    stage's folder holds the model, only the policy's state stands here: on disk nothing grows with requests
    but what the policy remembers and a line on each.
    """

    def __init__(self, folder: Path, base: Carried, policy: Policy) -> None:
        self._folder, self._base, self._policy = folder, base, policy
        self.records: list[dict[str, Any]] = []
        """What is on record of each request that is done."""
        self._written, self._took = time.monotonic(), 0.0

    @property
    def done(self) -> int:
        """How many requests are done."""
        return len(self.records)

    def add(self, record: Mapping[str, Any], *, saved: bool) -> None:
        """Note that one more is done; `saved` says that its stage's folder holds the model."""
        self.records.append(dict(record))
        started = time.monotonic()
        if saved or started - self._written >= _SHARE * self._took:
            self._write(saved)
            self._written, self._took = time.monotonic(), time.monotonic() - started

    def _write(self, saved: bool) -> None:
        model, facts = ({}, {}) if saved else self._base.state()
        tensors = {f"{_MODEL}{name}": tensor for name, tensor in model.items()}
        tensors |= {f"{_POLICY}{name}": tensor for name, tensor in self._policy.tensors().items()}
        state = {"model": facts, "policy": self._policy.facts()}
        place = self._folder / (str(self.done) if saved else _LATEST)
        write_checkpoint(place, tensors, {"records": self.records, **state})

    def resume(self, saved: Callable[[int], bool]) -> None:
        """Take up the furthest state on disk, if there is any; `saved` says whether the folder of a stage
        that held the model is still there. The model is that of `open`, or of that folder.
        """
        names = [place.name for place in self._folder.iterdir()] if self._folder.is_dir() else []
        places = [name for name in names if has_checkpoint(self._folder / name)]
        found = [self._read(name) for name in places if name == _LATEST or saved(int(name))]
        if not found:
            return
        tensors, facts = max(found, key=lambda state: len(state[1]["records"]))
        self.records = facts["records"]
        self._policy.load(_under(_POLICY, tensors), facts["policy"])

    def open(self) -> None:
        """Make the model in memory what it was after the last request on disk that no folder holds."""
        tensors, facts = self._read(_LATEST)
        self._base.load(_under(_MODEL, tensors), facts["model"])

    def _read(self, name: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
        return read_checkpoint(self._folder / name)


def _under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): each for key, each in tensors.items() if key.startswith(prefix)}
