"""The picture cache: every picture is drawn once, whoever asks for it."""

from __future__ import annotations

import hashlib
import io
import json
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from PIL import Image

from oubliette.core.errors import UserError
from oubliette.core.run_folder import note
from oubliette.core.writing import make_parents, write_bytes, writing
from oubliette.data.picture_sheet import encode_png

_PNG = b"\x89PNG\r\n\x1a\n"
#: Told after every batch: pictures done, pictures asked for.
Progress = Callable[[int, int], None]


class Drawer(Protocol):
    """The part of a backend that the cache needs."""

    def fingerprint(self) -> str:
        """Hash of the weights as they are now."""
        ...

    def draw(self, prompts: Sequence[str], seeds: Sequence[int], **how: Any) -> np.ndarray:
        """Pictures, uint8 (n, H, W, 3)."""
        ...


class PictureCache:
    """Pictures by what determines them: model hash, prompt, seed, sampler, steps, guidance.

    With a folder each picture is one lossless PNG, written atomically under the first characters of the
    model's hash; without one the pictures stay in memory for the life of the cache. Under a multi-process
    launch the missing pictures of a call are split over the processes, which must share the folder.
    """

    def __init__(self, folder: Path | str | None = None) -> None:
        self.folder = None if folder is None else Path(folder)
        #: Pictures this object has drawn, and pictures it found.
        self.drawn = self.found = 0
        self._memory: dict[str, bytes] = {}
        if self.folder is not None:
            make_parents(self.folder)
            with writing(self.folder):
                self.folder.mkdir(exist_ok=True)

    def draw(self, model: Drawer, prompts: Sequence[str], seeds: Sequence[int], **how: Any) -> np.ndarray:
        """Pictures uint8 (n, H, W, 3) for prompts and seeds, one each; `how` are the options of `fill`."""
        if not prompts:
            raise ValueError("no prompts were given to draw")
        return self.read(self.fill(model, prompts, seeds, **how))

    def fill(
        self,
        model: Drawer,
        prompts: Sequence[str],
        seeds: Sequence[int],
        *,
        steps: int = 25,
        guidance: float = 3.0,
        batch: int = 32,
        fingerprint: str | None = None,
        progress: Progress | None = None,
    ) -> list[str]:
        """Draw what is not yet there, a batch at a time, and return every picture's key.

        `fingerprint` spares a large model being hashed again when the caller has just done so. A run that is
        killed keeps the batches it has drawn.
        """
        if len(prompts) != len(seeds):
            raise ValueError(f"one seed a prompt: found {len(prompts)} prompts, {len(seeds)} seeds")
        weights = fingerprint or model.fingerprint()
        sampler = str(getattr(model, "sampler", "ddim"))
        keys = [
            picture_key(weights, prompt, seed, sampler=sampler, steps=steps, guidance=guidance)
            for prompt, seed in zip(prompts, seeds, strict=True)
        ]
        first = {key: index for index, key in reversed(list(enumerate(keys)))}
        missing = sorted(index for key, index in first.items() if not self._has(key))
        self.found += len(keys) - len(missing)
        rank, processes = _process() if self.folder is not None else (0, 1)
        own = [index for index in missing if int(keys[index][-8:], 16) % processes == rank]
        told = len(keys) - len(own)
        for start in range(0, len(own), batch):
            if progress is not None:
                progress(told + start, len(keys))
            part = own[start : start + batch]
            texts, numbers = [prompts[i] for i in part], [seeds[i] for i in part]
            pictures = model.draw(texts, numbers, steps=steps, guidance=guidance, batch=batch)
            # All are encoded before any is written: a kill leaves whole batches, or nearly always.
            encoded = [_encoded(picture) for picture in pictures]
            for index, content in zip(part, encoded, strict=True):
                self._write(keys[index], content)
            self.drawn += len(part)
        if processes > 1:
            _wait_for_all()
        if progress is not None:
            progress(len(keys), len(keys))
        return keys

    def read(self, keys: Sequence[str]) -> np.ndarray:
        """Pictures uint8 (n, H, W, 3) by their keys; KeyError or UserError where one is not there."""
        return np.stack([self._read(key) for key in keys])

    def _path(self, key: str) -> Path:
        if self.folder is None:
            raise ValueError("this cache has no folder")
        return self.folder / key[:16] / f"{key[17:]}.png"

    def _has(self, key: str) -> bool:
        """Whether a picture is there as it was written; a damaged one is drawn again, which is said."""
        if self.folder is None:
            return key in self._memory
        path = self._path(key)
        whole = path.is_file() and is_whole_png(path.read_bytes())
        if not whole and path.is_file():
            note(f"picture cache: {path} is damaged; it is drawn again")
        return whole

    def _write(self, key: str, content: bytes) -> None:
        if self.folder is None:
            self._memory[key] = content
        else:
            write_bytes(self._path(key), content)

    def _read(self, key: str) -> np.ndarray:
        if self.folder is None:
            return decode_png(self._memory[key])
        path = self._path(key)
        try:
            return decode_png(path.read_bytes())
        except OSError as error:
            raise UserError(
                f"picture cache: {path} cannot be read ({error}); delete it and it is drawn again"
            ) from error


def picture_key(
    fingerprint: str, prompt: str, seed: int, *, sampler: str, steps: int, guidance: float
) -> str:
    """A picture's key: 16 characters from the model's hash, a dash, 32 from all that determines it."""
    facts = json.dumps([fingerprint, prompt, int(seed), sampler, int(steps), float(guidance)])
    model = hashlib.sha256(fingerprint.encode()).hexdigest()[:16]
    return f"{model}-{hashlib.sha256(facts.encode()).hexdigest()[:32]}"


def _encoded(picture: np.ndarray) -> bytes:
    if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[-1] != 3:
        raise ValueError(f"a picture must be uint8 (H, W, 3); found {picture.dtype} {picture.shape}")
    return encode_png(picture)


def is_whole_png(content: bytes) -> bool:
    """Whether PNG bytes are all there and match the checksum (CRC-32) that each of their chunks has."""
    at, kind = len(_PNG), b""
    if content[:at] != _PNG:
        return False
    while at < len(content):
        end = at + 12 + int.from_bytes(content[at : at + 4], "big")
        kind = content[at + 4 : at + 8]
        if zlib.crc32(content[at + 4 : end - 4]) != int.from_bytes(content[end - 4 : end], "big"):
            return False
        at = end
    return at == len(content) and kind == b"IEND"


def decode_png(content: bytes) -> np.ndarray:
    """PNG bytes as a uint8 picture (H, W, 3)."""
    with Image.open(io.BytesIO(content)) as image:
        return np.asarray(image.convert("RGB"), dtype=np.uint8)


def _process() -> tuple[int, int]:
    import torch.distributed as distributed

    if distributed.is_available() and distributed.is_initialized():
        return distributed.get_rank(), distributed.get_world_size()
    return 0, 1


def _wait_for_all() -> None:
    import torch.distributed as distributed

    distributed.barrier()
