"""A safetensors file read in pieces: its header first, then one tensor's bytes a few megabytes at a time."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from oubliette.backends.files.stored import refuse_pickle
from oubliette.core.errors import UserError
from oubliette.guard.canonical import one_line

__all__ = ["FLOATS", "TensorPlace", "open_file"]

#: safetensors' words for the dtypes that values can be compared in; all others are quantised or no weights.
FLOATS = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
_PIECE = 1 << 17  # elements: a megabyte where they are widened to float64


@dataclass(frozen=True)
class TensorPlace:
    """Where a tensor lies in a file: its key, dtype (safetensors' word), shape, and first byte."""

    file: Path
    key: str
    dtype: str
    shape: tuple[int, ...]
    start: int

    @property
    def kind(self) -> torch.dtype | None:
        """Its torch dtype; None where it is no ordinary floating-point number."""
        return FLOATS.get(self.dtype)

    @property
    def size(self) -> int:
        """The number of its elements."""
        return math.prod(self.shape)

    def pieces(self, row: int = 1) -> Iterator[Tensor]:
        """Its values from the first to the last, flat, in pieces of about 130 000 that are whole rows of
        `row`.

        Only for tensors that have a `kind`. A piece is read from the file when it is asked for, not mapped,
        so that memory stays that of a piece. UserError where the file has become shorter.
        """
        kind = self.kind
        assert kind is not None
        count = max(_PIECE // row, 1) * row
        with open(self.file, "rb") as file:
            file.seek(self.start)
            for done in range(0, self.size, count):
                raw = bytearray(min(count, self.size - done) * kind.itemsize)
                if file.readinto(raw) != len(raw):
                    raise UserError(f"{self.file}: ends inside tensor {self.key!r}")
                yield torch.frombuffer(raw, dtype=kind)

    def read(self) -> Tensor:
        """The whole tensor, in memory."""
        flat = list(self.pieces())
        return (torch.cat(flat) if flat else torch.empty(0, dtype=self.kind)).reshape(self.shape)


def open_file(path: Path) -> tuple[dict[str, TensorPlace], dict[str, str]]:
    """The tensors of a safetensors file by key, and its header's metadata; nothing else is read.

    Raises UserError for a pickle, and for what is no whole safetensors file.
    """
    refuse_pickle(path)
    try:
        # The library checks that the header tells the truth about the file; what it says is then read again,
        # since the places of the tensors are not among what the library gives.
        with safe_open(str(path), framework="pt") as opened:
            metadata = dict(opened.metadata() or {})
            keys = set(opened.keys())
        with open(path, "rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(length))
        header.pop("__metadata__", None)
        if set(header) != keys:
            raise ValueError("its header names a tensor twice")
        places = {
            key: TensorPlace(
                path, key, entry["dtype"], tuple(entry["shape"]), 8 + length + entry["data_offsets"][0]
            )
            for key, entry in header.items()
        }
    except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{one_line(path)}: not a readable safetensors file ({one_line(error)})") from error
    return places, metadata
