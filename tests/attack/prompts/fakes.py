"""A model that draws what its prompt says, and an attack whose proposals are given: nothing is random."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from oubliette.attack.prompts.attack import Job, PromptAttack, Proposal


class Drawer:
    """Draws white where the prompt holds one of `words`, black elsewhere; remembers what it drew."""

    kind = "diffusion"
    world = None
    picture_side = 4
    latent_shape = (4, 2, 2)

    def __init__(self, *words: str) -> None:
        self.words = words
        self.drawn: list[tuple[str, int]] = []

    def draw(self, prompts: Sequence[str], seeds: Sequence[int], **how: Any) -> np.ndarray:
        self.how = how
        self.drawn += zip(prompts, seeds, strict=True)
        shades = [255 * any(word in prompt for word in self.words) for prompt in prompts]
        return np.stack([np.full((4, 4, 3), shade, dtype=np.uint8) for shade in shades])


def white(pictures: np.ndarray) -> np.ndarray:
    """A judge who finds the concept in white pictures."""
    return np.asarray(pictures.mean(axis=(1, 2, 3)) > 127)


class Listed(PromptAttack):
    """Proposes what its table says for each original prompt, one a round."""

    name: ClassVar[str] = "listed"
    about: ClassVar[str] = "for tests"
    paper: ClassVar[str] = "none"

    def __init__(self, table: Mapping[str, Sequence[str]]) -> None:
        super().__init__()
        self.table = table

    def tries(self) -> int:
        return max(map(len, self.table.values()), default=0)

    def rounds(self, job: Job) -> Iterator[dict[int, Proposal]]:
        for turn in range(self.tries()):
            ways = {
                n: self.table[case.prompt] for n, case in enumerate(job.cases) if case.prompt in self.table
            }
            yield {n: Proposal(way[turn], float(turn)) for n, way in ways.items() if turn < len(way)}
