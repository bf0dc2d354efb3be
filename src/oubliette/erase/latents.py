"""Latents of pictures drawn by the base model: drawn once, kept on disk where a cache folder is given."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from oubliette.errors import UserError
from oubliette.train.processes import Processes
from oubliette.train.progress import progress
from oubliette.writing import write_bytes

if TYPE_CHECKING:
    from oubliette.backends.diffusion import DiffusionBackend

_BATCH = 32


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
        missing = [index for index, path in enumerate(paths) if not path.is_file()]
        processes = Processes(model.device)
        processes.wait()
        out = torch.zeros(len(prompts), *model.latent_shape)
        for index in set(range(len(prompts))) - set(missing):
            out[index] = _read(paths[index], model.latent_shape)
        if missing:
            fresh = self._drawn(
                model, [prompts[i] for i in missing], [seeds[i] for i in missing], steps, guidance, title
            )
            out[missing] = fresh
            if processes.is_main:
                for index in missing:
                    _write(paths[index], out[index])
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
    ) -> Tensor:
        processes = Processes(model.device)
        out = torch.zeros(len(prompts), *model.latent_shape, device=model.device)
        starts = list(range(0, len(prompts), _BATCH))
        mine = starts[processes.index :: processes.count]
        shown = self.show_progress and processes.is_main
        with (
            progress(title, len(mine) * _BATCH, "pictures", enabled=shown) as tick,
            torch.autocast(model.device.type, enabled=False),
        ):
            for done, first in enumerate(mine, start=1):
                part = slice(first, first + _BATCH)
                out[part] = model.draw_latents(
                    list(prompts[part]), list(seeds[part]), steps=steps, guidance=guidance, batch=_BATCH
                )
                tick(done * _BATCH, "")
        if processes.count > 1:
            from accelerate.utils import reduce

            # Each row is filled in by one process and zero in all others: the sum is that row, bit for bit.
            out = reduce(out, reduction="sum")
        return out.cpu()

    def _path(self, key: str) -> Path:
        assert self.folder is not None
        return self.folder / "latents" / key[:2] / f"{key}.safetensors"


def _read(path: Path, shape: tuple[int, ...]) -> Tensor:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        latent = load_file(path)["latent"]
    except (SafetensorError, KeyError) as error:
        raise UserError(
            f"{path}: not a cached latent ({error}); remove it, it will be drawn again"
        ) from error
    if tuple(latent.shape) != tuple(shape):
        raise UserError(
            f"{path}: holds a latent {tuple(latent.shape)}, the model's are {tuple(shape)}; remove it"
        )
    return latent


def _write(path: Path, latent: Tensor) -> None:
    from safetensors.torch import save

    write_bytes(path, save({"latent": latent.contiguous()}))
