"""Whose turn it is: the prompts of a step, the concepts one after the other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import torch

from oubliette.erase.request import ErasureRequest, PromptPair

if TYPE_CHECKING:
    from oubliette.erase.prepare import DiffusionData

__all__ = ["PromptSource", "batch_pairs"]

PromptSource = Literal["name", "bank"]
"""What stands for a concept: its bare name, or the prompts of the bank."""


def batch_pairs(
    request: ErasureRequest,
    data: DiffusionData,
    said: PromptSource,
    step: int,
    rng: torch.Generator,
    batch: int,
) -> list[PromptPair]:
    """`batch` pairs for a step: bare names beside their anchors', or items of the data, which the user's own
    prompts always are. Only items are drawn from `rng`.
    """
    if said == "bank" or request.pairs:
        return [data.items[index] for index in data.pick(step, rng, batch)]
    concepts = request.concepts
    turns = [(step * batch + slot) % len(concepts) for slot in range(batch)]
    return [PromptPair(concepts[turn].name, concepts[turn].anchor, turn) for turn in turns]
