"""Latents of pictures drawn by the base model: drawn once, kept on disk where a cache folder is given."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from oubliette.core.manifest import fingerprint
from oubliette.core.progress import Tick, progress
from oubliette.core.writing import write_bytes
from oubliette.train.checkpoint import DIGEST
from oubliette.train.processes import Processes

if TYPE_CHECKING:
    from oubliette.backends.diffusion import DiffusionBackend

#: Pictures that are drawn at once.
BATCH = 32


class CacheWarning(UserWarning):
    """A cached part is damaged and made anew."""


def latent_key(fingerprint: str, prompt: str, seed: int, sampler: str, steps: int, guidance: float) -> str:
    """The sha256 (hex) of all that determines a drawn latent."""
    facts = json.dumps([fingerprint, prompt, seed, sampler, steps, float(guidance)])
    return hashlib.sha256(facts.encode()).hexdigest()


class LatentStore:
    """Draws latents with `Backend.draw_latents`, each one once.

    One safetensors file a picture under `folder`, written atomically and named by what determines it; without
    a folder nothing is kept. Under a multi-process launch each process draws its share of the batches.
    """

    def __init__(self, folder: Path | str | None = None, *, show_progress: bool = True) -> None:
        self.folder = None if folder is None else Path(folder)
        self.show_progress = show_progress

    def draw(
        self,
        model: DiffusionBackend,
        prompts: Sequence[str],
        seeds: Sequence[int],
        *,
        steps: int,
        guidance: float,
        title: str = "drawing",
    ) -> Tensor:
        """Latents (n, C, h, w) in float32 on the CPU for prompts and seeds, one each.

        Always in the model's own precision: a mixed-precision run trains on the same pictures as any other.
        """
        if self.folder is None:
            return self._drawn(model, prompts, seeds, steps, guidance, title)
        print_of = model.fingerprint()
        paths = [
            self._path(latent_key(print_of, prompt, seed, model.sampler, steps, guidance))
            for prompt, seed in zip(prompts, seeds, strict=True)
        ]
        # Every process must see the same files missing, so none writes before all have looked.
        kept = [_read(path, model.latent_shape) for path in paths]
        # A batch is drawn whole where one of it is missing: a picture's last bits depend on its neighbours.
        starts = range(0, len(paths), BATCH)
        gone = [first for first in starts if any(each is None for each in kept[first : first + BATCH])]
        missing = [i for first in gone for i in range(first, min(first + BATCH, len(paths)))]
        processes = Processes(model.device)
        processes.wait()
        out = torch.zeros(len(prompts), *model.latent_shape)
        for index, latent in enumerate(kept):
            if latent is not None:
                out[index] = latent
        if missing:
            out[missing] = self._drawn(
                model,
                [prompts[i] for i in missing],
                [seeds[i] for i in missing],
                steps,
                guidance,
                title,
                [paths[i] for i in missing],
            )
            processes.wait()
        return out

    @torch.no_grad()
    def _drawn(
        self,
        model: DiffusionBackend,
        prompts: Sequence[str],
        seeds: Sequence[int],
        steps: int,
        guidance: float,
        title: str,
        paths: Sequence[Path] = (),
    ) -> Tensor:
        processes = Processes(model.device)
        out = torch.zeros(len(prompts), *model.latent_shape, device=model.device)
        starts = list(range(0, len(prompts), BATCH))
        mine = starts[processes.index :: processes.count]
        shown = self.show_progress and processes.is_main
        total = sum(len(prompts[first : first + BATCH]) for first in mine)
        done = 0
        with (
            progress(title, total, "pictures", enabled=shown) as tick,
            torch.autocast(model.device.type, enabled=False),
        ):
            for first in mine:
                part = slice(first, first + BATCH)
                out[part] = model.draw_latents(
                    list(prompts[part]),
                    list(seeds[part]),
                    steps=steps,
                    guidance=guidance,
                    batch=BATCH,
                    # A batch takes seconds: the bar moves within it.
                    on_step=partial(_further, tick, done),
                )
                # A batch at a time, by whoever drew it: a run that is killed goes on from what it has.
                for path, latent in zip(paths[part], out[part], strict=False):
                    _write(path, latent.cpu())
                done += len(prompts[part])
                tick(done, "")
        if processes.count > 1:
            from accelerate.utils import reduce

            # Each row is filled in by one process and zero in all others: the sum is that row, bit for bit.
            out = reduce(out, reduction="sum")
        return out.cpu()

    def _path(self, key: str) -> Path:
        assert self.folder is not None
        return self.folder / "latents" / key[:2] / f"{key}.safetensors"


def _further(tick: Tick, before: int, pictures: int, _total: int) -> None:
    """Tell of a batch under way, `before` it so many pictures."""
    tick(before + pictures, "")


def _read(path: Path, shape: tuple[int, ...]) -> Tensor | None:
    """The latent in a file; None where there is none, or, with a warning, where the file is damaged."""
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            latent: Tensor = file.get_tensor("latent")
            whole = (file.metadata() or {}).get(DIGEST) == fingerprint({"latent": latent})
    except (SafetensorError, KeyError) as error:
        warnings.warn(f"{path}: not a cached latent ({error}); it is drawn again", CacheWarning, stacklevel=2)
        return None
    if not whole or tuple(latent.shape) != tuple(shape):
        warnings.warn(f"{path}: a damaged cached latent; it is drawn again", CacheWarning, stacklevel=2)
        return None
    return latent


def _write(path: Path, latent: Tensor) -> None:
    from safetensors.torch import save

    tensors = {"latent": latent.contiguous()}
    write_bytes(path, save(tensors, metadata={DIGEST: fingerprint(tensors)}))
