"""Batches for the two sides of guarding: the data whose learning is to be hampered, and the innocent."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence, Sized
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from oubliette.core.errors import UserError
from oubliette.train.finetune import SupervisedData

__all__ = [
    "Divisible",
    "Mixture",
    "OneOf",
    "Pairable",
    "Picked",
    "as_sets",
    "halved",
    "paired",
    "rng_for",
    "rows_of",
    "seed_for",
]


@runtime_checkable
class Pairable(Protocol):
    """Data that can draw other rows under a batch's own noise."""

    def draw_like(self, rng: torch.Generator, batch: Any) -> Any:
        """As many rows of this data as `batch` has, with the batch's noise and timesteps."""


@runtime_checkable
class Divisible(Protocol):
    """Data whose rows can be dealt to two disjoint halves."""

    def halves(self, seed: int) -> tuple[SupervisedData, SupervisedData]:
        """Two halves, dealt at random by `seed`; UserError for a single row."""


@dataclass(frozen=True)
class Picked:
    """A batch of one set among several, and the set, which knows its loss."""

    data: SupervisedData
    batch: Any

    def loss(self, model: Any) -> Tensor:
        """The batch's loss at the model as it is, a scalar."""
        return self.data.loss(model, self.batch)


class OneOf:
    """Several sets as one: each batch is of one of them, drawn with equal chances."""

    def __init__(self, sets: Sequence[SupervisedData]) -> None:
        self._sets = tuple(sets)

    def draw(self, rng: torch.Generator, count: int) -> Picked:
        """`count` rows of one set."""
        chosen = self._sets[_pick(rng, len(self._sets))]
        return Picked(chosen, chosen.draw(rng, count))

    def loss(self, model: Any, batch: Picked) -> Tensor:
        """The loss of the set the batch is of."""
        return batch.loss(model)


class Mixture:
    """A user's data: each batch's rows are dealt evenly to the sides, those left over at random.

    A side's rows are of one of its sets. The loss is the mean over rows, as if they were one batch.
    """

    def __init__(self, sides: Sequence[Sequence[SupervisedData]]) -> None:
        self._sides = [OneOf(sets) for sets in sides]

    def draw(self, rng: torch.Generator, count: int) -> list[tuple[int, Picked]]:
        """The sides' batches, each with its number of rows."""
        each, left = divmod(count, len(self._sides))
        extra = set(torch.randperm(len(self._sides), generator=rng)[:left].tolist())
        rows = [each + (place in extra) for place in range(len(self._sides))]
        return [(n, side.draw(rng, n)) for n, side in zip(rows, self._sides, strict=True) if n]

    def loss(self, model: Any, batch: list[tuple[int, Picked]]) -> Tensor:
        """The mean over all rows."""
        losses = [count * picked.loss(model) for count, picked in batch]
        return torch.stack(losses).sum() / sum(count for count, _ in batch)


def seed_for(seed: int, *key: object) -> int:
    """A seed of 56 bits that depends on the publisher's seed and the words alone."""
    text = "/".join(("guard", str(seed), *map(str, key)))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:7], "big")


def rng_for(seed: int, *key: object) -> torch.Generator:
    """A CPU generator seeded with `seed_for` the same."""
    return torch.Generator().manual_seed(seed_for(seed, *key))


def paired(
    illegal: Sequence[SupervisedData], innocent: Sequence[SupervisedData], count: int, seed: int, *key: object
) -> tuple[Picked, Picked]:
    """An illegal and an innocent batch of `count` rows each, under the same noise where they can be.

    The sets are chosen first, then both sides draw from generators of the same seed: sets of the same size
    meet the same noise and timesteps then, others where the innocent set is `Pairable`. The difference of
    the two losses varies far less than either.
    """
    chooser = rng_for(seed, *key, "sets")
    wrong, right = illegal[_pick(chooser, len(illegal))], innocent[_pick(chooser, len(innocent))]
    first = Picked(wrong, wrong.draw(rng_for(seed, *key), count))
    if isinstance(right, Pairable) and isinstance(wrong, Pairable):
        return first, Picked(right, right.draw_like(rng_for(seed, *key), first.batch))
    return first, Picked(right, right.draw(rng_for(seed, *key), count))


def halved(
    sets: Sequence[SupervisedData], seed: int
) -> tuple[list[SupervisedData], list[SupervisedData]] | None:
    """Each set's two halves; None where a set is not `Divisible`."""
    halves = []
    for place, data in enumerate(sets):
        if not isinstance(data, Divisible):
            return None
        halves.append(data.halves(seed + place))
    return [first for first, _ in halves], [second for _, second in halves]


def rows_of(sets: Sequence[SupervisedData]) -> int | None:
    """How many rows the sets have together; None where one does not say."""
    counts = [len(data) if isinstance(data, Sized) else None for data in sets]
    return None if None in counts else sum(count for count in counts if count is not None)


def as_sets(given: Any, what: str) -> list[SupervisedData]:
    """The sets of one side: one set by itself, or a sequence of them; UserError where there is none."""
    sets = [given] if hasattr(given, "draw") else list(given)
    if not sets:
        raise UserError(f"guard: no {what} data; give at least one set to learn the mask from")
    for data in sets:
        if not (hasattr(data, "draw") and hasattr(data, "loss")):
            raise UserError(
                f"guard: {what} data must draw batches and know their loss, found {type(data).__name__}"
            )
    return sets


def _pick(rng: torch.Generator, count: int) -> int:
    return int(torch.randint(count, (1,), generator=rng)) if count > 1 else 0
