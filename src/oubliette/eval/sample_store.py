"""What models were asked to make, kept: every picture is drawn once, every answer given once."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import numpy as np

from oubliette.core.errors import UserError
from oubliette.core.run_folder import note, sealed, unsealed
from oubliette.core.writing import make_parents, write_bytes, writing
from oubliette.data.png import decode_png, encode_png, is_whole_png

__all__ = ["How", "Progress", "Sample", "SampleStore"]

#: Told after every batch: samples made, samples asked for.
Progress = Callable[[int, int], None]
Sample: TypeAlias = np.ndarray | str
"""A picture, uint8 (H, W, 3), or an answer."""

_PICTURE, _TEXT = ".png", ".json"


class How(Protocol):
    """How a model is asked: what of that determines a sample, and the asking itself."""

    @property
    def batch(self) -> int:
        """Samples made at once."""
        ...

    @property
    def passes(self) -> int:
        """Forward passes that one sample takes, at most."""
        ...

    def check(self, model: Any) -> None:
        """UserError for a model that cannot be asked so."""
        ...

    def shortened(self) -> How:
        """A cheaper way to ask, for timing."""
        ...

    def facts(self, model: Any) -> list[Any]:
        """What determines a sample beside weights, prompt and seed, as plain data."""
        ...

    def make(self, model: Any, prompts: Sequence[str], seeds: Sequence[int]) -> Sequence[Sample]:
        """A sample for each prompt and seed."""
        ...

    def distances(self, own: np.ndarray, other: np.ndarray) -> np.ndarray | None:
        """How far each sample (n,) is from the other model's; None where nothing says."""
        ...

    def together(self, prompts: Sequence[str], samples: Sequence[Sample]) -> np.ndarray:
        """Samples of these prompts as judges see them: an array (n, ...)."""
        ...


class SampleStore:
    """Samples by what determines them: the model's hash, prompt, seed, and how it was asked.

    With a folder each is one file (a lossless PNG, or a text with its digest), written atomically under the
    first characters of the model's hash; without one they stay in memory for the life of the store. Under a
    multi-process launch the missing ones of a call are split over the processes, which must share the folder.
    """

    def __init__(self, folder: Path | str | None = None) -> None:
        self.folder = None if folder is None else Path(folder)
        #: Samples this object has had made, and samples it found.
        self.drawn = self.found = 0
        self._memory: dict[str, tuple[str, bytes]] = {}
        if self.folder is not None:
            make_parents(self.folder)
            with writing(self.folder):
                self.folder.mkdir(exist_ok=True)

    def draw(
        self, model: Any, prompts: Sequence[str], seeds: Sequence[int], how: How, **options: Any
    ) -> np.ndarray:
        """Samples (n, ...) for prompts and seeds, one each; `options` are those of `fill`."""
        if not prompts:
            raise ValueError("no prompts were given to draw")
        return how.together(prompts, self.read(self.fill(model, prompts, seeds, how, **options)))

    def fill(
        self,
        model: Any,
        prompts: Sequence[str],
        seeds: Sequence[int],
        how: How,
        *,
        fingerprint: str | None = None,
        progress: Progress | None = None,
    ) -> list[str]:
        """Have made what is not yet there, a batch at a time, and return every sample's key.

        `fingerprint` spares a large model being hashed again when the caller has just done so. A run that is
        killed keeps the batches it has made.
        """
        if len(prompts) != len(seeds):
            raise ValueError(f"one seed a prompt: found {len(prompts)} prompts, {len(seeds)} seeds")
        keys = sample_keys(fingerprint or model.fingerprint(), prompts, seeds, how.facts(model))
        first = {key: index for index, key in reversed(list(enumerate(keys)))}
        missing = sorted(index for key, index in first.items() if not self._has(key))
        self.found += len(keys) - len(missing)
        rank, processes = _process() if self.folder is not None else (0, 1)
        own = [index for index in missing if int(keys[index][-8:], 16) % processes == rank]
        told = len(keys) - len(own)
        for start in range(0, len(own), how.batch):
            if progress is not None:
                progress(told + start, len(keys))
            part = own[start : start + how.batch]
            made = how.make(model, [prompts[i] for i in part], [seeds[i] for i in part])
            # All are encoded before any is written: a kill leaves whole batches, or nearly always.
            encoded = [_encoded(sample) for sample in made]
            for index, (suffix, content) in zip(part, encoded, strict=True):
                self._write(keys[index], suffix, content)
            self.drawn += len(part)
        if processes > 1:
            _wait_for_all()
        if progress is not None:
            progress(len(keys), len(keys))
        return keys

    @property
    def empty(self) -> bool:
        """Whether nothing is kept here."""
        return not self._memory if self.folder is None else not any(self.folder.iterdir())

    def missing(self, fingerprint: str, asked: Sequence[tuple[str, int]], facts: Sequence[Any]) -> int:
        """How many of the samples of these prompts and seeds (and `How.facts`) would have to be made."""
        prompts, seeds = [prompt for prompt, _ in asked], [seed for _, seed in asked]
        keys = set(sample_keys(fingerprint, prompts, seeds, facts))
        return sum(not self._has(key) for key in keys)

    def read(self, keys: Sequence[str]) -> list[Sample]:
        """Samples by their keys; KeyError or UserError where one is not there."""
        return [self._read(key) for key in keys]

    def _paths(self, key: str) -> tuple[Path, Path]:
        if self.folder is None:
            raise ValueError("this store has no folder")
        place = self.folder / key[:16] / key[17:]
        return place.with_suffix(_PICTURE), place.with_suffix(_TEXT)

    def _has(self, key: str) -> bool:
        """Whether a sample is there as it was written; a damaged one is made again, which is said."""
        if self.folder is None:
            return key in self._memory
        picture, text = self._paths(key)
        if picture.is_file():
            whole = is_whole_png(picture.read_bytes())
        elif text.is_file():
            whole = unsealed(text.read_bytes()) is not None
        else:
            return False
        if not whole:
            note(f"picture cache: {picture if picture.is_file() else text} is damaged; it is drawn again")
        return whole

    def _write(self, key: str, suffix: str, content: bytes) -> None:
        if self.folder is None:
            self._memory[key] = suffix, content
        else:
            picture, text = self._paths(key)
            write_bytes(picture if suffix == _PICTURE else text, content)

    def _read(self, key: str) -> Sample:
        if self.folder is None:
            suffix, content = self._memory[key]
            return _decoded(content, picture=suffix == _PICTURE)
        path, text = self._paths(key)
        try:
            if text.is_file():
                return _decoded(text.read_bytes(), picture=False)
            return _decoded(path.read_bytes(), picture=True)
        except OSError as error:
            raise UserError(
                f"picture cache: {path} cannot be read ({error}); delete it and it is drawn again"
            ) from error


def sample_keys(
    fingerprint: str, prompts: Sequence[str], seeds: Sequence[int], facts: Sequence[Any]
) -> list[str]:
    """A sample's key: 16 characters from the model's hash, a dash, 32 from all that determines it."""
    model = hashlib.sha256(fingerprint.encode()).hexdigest()[:16]
    content = (
        json.dumps([fingerprint, prompt, int(seed), *facts])
        for prompt, seed in zip(prompts, seeds, strict=True)
    )
    return [f"{model}-{hashlib.sha256(line.encode()).hexdigest()[:32]}" for line in content]


def _encoded(sample: Sample) -> tuple[str, bytes]:
    if isinstance(sample, str):
        return _TEXT, sealed(json.dumps(sample, ensure_ascii=False).encode())
    return _PICTURE, encode_png(np.asarray(sample))


def _decoded(content: bytes, *, picture: bool) -> Sample:
    if picture:
        return decode_png(content)
    text = unsealed(content)
    if text is None:
        raise UserError("picture cache: a kept answer is damaged; delete it and it is given again")
    return str(json.loads(text))


def _process() -> tuple[int, int]:
    import torch.distributed as distributed

    if distributed.is_available() and distributed.is_initialized():
        return distributed.get_rank(), distributed.get_world_size()
    return 0, 1


def _wait_for_all() -> None:
    import torch.distributed as distributed

    distributed.barrier()
