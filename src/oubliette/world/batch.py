"""Batches of world pictures with labels and captions."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from oubliette.world import facts
from oubliette.world.captions import caption
from oubliette.world.scene import Scene, paint, random_scene

HEADS = ("object", "style", "colour", "person")


@dataclass(frozen=True)
class Pool:
    """Which names may appear: known and novel for the judges, known for the generators, fewer for gold."""

    objects: tuple[str, ...]
    styles: tuple[str, ...]
    persons: tuple[str, ...]

    def scene(self, rng: np.random.Generator) -> Scene:
        return random_scene(rng, objects=self.objects, styles=self.styles, persons=self.persons)

    @classmethod
    def known(cls, *, without: Iterable[str] = ()) -> Pool:
        """What the generators know, less the names in `without`."""
        banned = set(without)
        return cls(
            *(tuple(n for n in facts.names(k) if n not in banned) for k in ("object", "style", "person"))
        )

    @classmethod
    def everything(cls) -> Pool:
        return cls(*(tuple(facts.all_names(k)) for k in ("object", "style", "person")))


def classes(head: str) -> list[str]:
    """The classes of an oracle head: every name of the world, known and novel, and "none" last."""
    return [*(facts.COLOURS if head == "colour" else facts.all_names(head)), "none"]


def scenes(pool: Pool, n: int, seed: int) -> list[Scene]:
    rng = np.random.default_rng([seed, 3])
    return [pool.scene(rng) for _ in range(n)]


def captions(items: Iterable[Scene], seed: int, *, empty: float = 0.1) -> list[str]:
    rng = np.random.default_rng([seed, 5])
    return [caption(scene, rng, empty=empty) for scene in items]


def pictures(items: Iterable[Scene]) -> np.ndarray:
    """uint8 (n, 64, 64, 3)."""
    return np.stack([paint(scene) for scene in items])


def to_tensor(batch: np.ndarray) -> Tensor:
    """uint8 (n, H, W, 3) -> float32 (n, 3, H, W) in [-1, 1]."""
    return torch.from_numpy(batch).permute(0, 3, 1, 2).float().div_(127.5).sub_(1.0)


def labels(items: Iterable[Scene]) -> dict[str, Tensor]:
    """Class index per head, int64 (n,)."""
    table = {head: {name: i for i, name in enumerate(classes(head))} for head in HEADS}
    rows = [scene.labels() for scene in items]
    return {head: torch.tensor([table[head][row[head]] for row in rows]) for head in HEADS}
