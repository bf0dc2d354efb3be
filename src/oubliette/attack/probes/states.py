"""A model's hidden states where an answer begins, and what probes make of them block by block."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from oubliette.attack.probes.probe import Given, Shown
from oubliette.backends.base import answers
from oubliette.backends.hooks import read
from oubliette.backends.tokens import IGNORED
from oubliette.core.errors import UserError
from oubliette.data.questions import QA

__all__ = ["blocks_at", "shown", "states"]


def blocks_at(model: Any, depths: Sequence[float]) -> list[int]:
    """The blocks that end at these shares (0 to 1] of all, each once: the nearest, at least the first.

    UserError for another share, and for a model that does not answer.
    """
    if not answers(model):
        raise UserError(f"{model.source}: has no blocks whose hidden states could be read")
    wrong = next((depth for depth in depths if not 0 < depth <= 1), None)
    if wrong is not None:
        raise UserError(f"depths must lie above 0 and up to 1, found {wrong}")
    count = len(model.blocks())
    return list(dict.fromkeys(max(1, round(depth * count)) - 1 for depth in depths))


@torch.no_grad()
def states(model: Any, rows: Sequence[QA], blocks: Sequence[int], batch: int) -> dict[int, Tensor]:
    """What comes out of each block at the token from which a row's answer begins: (n, width) float32, CPU.

    That is the last token before the answer: no state depends on the answers.
    """
    found: dict[int, list[Tensor]] = {index: [] for index in blocks}
    for first in range(0, len(rows), batch):
        tokens = model.encode(rows[first : first + batch])
        places = (tokens.labels != IGNORED).int().argmax(dim=1) - 1
        with read(model.blocks(), blocks) as seen:
            model.predict(tokens)
        for index in blocks:
            own = seen[index]
            found[index].append(own[torch.arange(len(own)), places.to(own.device)].float().cpu())
    return {index: torch.cat(parts) for index, parts in found.items()}


def shown(
    given: Given,
    blocks: Sequence[int],
    said: Sequence[str],
    facts: Mapping[str, float] | None = None,
    each: Mapping[str, tuple[float, ...]] | None = None,
) -> Shown:
    """What was read at each block, as answers: `said` has a text a case, block after block."""
    asked = [case.prompt for case in given.cases] * len(blocks)
    return Shown(
        given.sampling.together(asked, said),
        tuple(asked),
        tuple(case.seed for case in given.cases) * len(blocks),
        dict(facts or {}),
        each={"block": tuple(float(index + 1) for index in blocks for _ in given.cases), **(each or {})},
    )
