"""Tensors kept in a scratch file and read back one at a time, bit for bit."""

from __future__ import annotations

import tempfile
import weakref
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from oubliette.core.errors import UserError

__all__ = ["DiskTensors"]


class DiskTensors:
    """Copies of named tensors on disk, in a temporary folder (TMPDIR) that goes when this object does.

    Written once, tensor by tensor; reading maps the file, so that its pages are the system's to drop.
    UserError where the disk is full.
    """

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        folder = tempfile.TemporaryDirectory(prefix="oubliette-guard-")
        # The folder's own finaliser warns of being implicit; this one closes it as a matter of course.
        self._close = weakref.finalize(self, folder.cleanup)
        self._places: dict[str, tuple[int, torch.dtype, torch.Size]] = {}
        path, offset = Path(folder.name) / "tensors", 0
        try:
            with path.open("wb") as file:
                for name, tensor in tensors.items():
                    self._places[name] = (offset, tensor.dtype, tensor.shape)
                    offset += file.write(_bytes(tensor).data)
        except OSError as error:
            self.close()
            size = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
            raise UserError(
                f"guard: cannot keep {size / 1e9:.2f} GB of weights in {path.parent.parent} "
                f"({error.strerror or error}); set TMPDIR to a folder with room"
            ) from None
        # Copy-on-write: the file is never changed through a tensor that was read from it.
        self._map = np.memmap(path, np.uint8, mode="c") if offset else np.empty(0, np.uint8)

    def __getitem__(self, name: str) -> Tensor:
        """The tensor as it was, on the CPU; it shares the file's pages, so copy it to keep or change it."""
        offset, dtype, shape = self._places[name]
        if shape.numel() == 0:
            return torch.empty(shape, dtype=dtype)
        size = shape.numel() * dtype.itemsize
        # Copied into aligned memory where the file's place is not a multiple of the element's size.
        raw = torch.from_numpy(np.asarray(self._map[offset : offset + size]))
        return (raw if offset % dtype.itemsize == 0 else raw.clone()).view(dtype).reshape(shape)

    @torch.no_grad()
    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Write the kept bits into these tensors, in place."""
        for name, tensor in tensors.items():
            tensor.copy_(self[name])

    def __contains__(self, name: object) -> bool:
        return name in self._places

    @property
    def names(self) -> list[str]:
        """Names in the order in which they were given."""
        return list(self._places)

    def close(self) -> None:
        """Remove the file; nothing can be read any more."""
        self._close()


def _bytes(tensor: Tensor) -> np.ndarray:
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    return flat.view(torch.uint8).numpy()
