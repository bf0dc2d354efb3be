"""How much of a mask two halves of the data agree on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

__all__ = ["Stability", "jaccard"]


@dataclass(frozen=True)
class Stability:
    """The Jaccard index of two masks, each learned from half of the data with a seed of its own.

    Over frozen parameters and over frozen tensors: |A and B| / |A or B|. `chance` is about what two masks
    drawn at random at the share that was got would have of parameters, s / (2 - s). `over` says what the two
    differed in beside the seed: "rows" of the data, or, where it cannot be divided, "draws" alone.
    """

    parameters: float
    tensors: float
    chance: float
    over: Literal["rows", "draws"]


def jaccard(first: Iterable[str], second: Iterable[str], sizes: Mapping[str, int] | None = None) -> float:
    """|A and B| / |A or B|, each name counted once or by its size; 1 where both are empty."""
    one, other = set(first), set(second)

    def total(names: set[str]) -> int:
        return len(names) if sizes is None else sum(sizes[name] for name in names)

    union = total(one | other)
    return total(one & other) / union if union else 1.0
