"""Original prompts for an attack: from the prompt bank, with seeds that no evaluation uses."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from oubliette.attack.prompts.records import Case
from oubliette.core.errors import UserError
from oubliette.data.concept import Concept
from oubliette.data.prompts import load_bank
from oubliette.world.world import OPEN, World

__all__ = ["make_cases"]

#: A bank is asked for this many times the prompts that are needed, since some may have to be left out.
_SPARE = 4


def make_cases(
    concept: Concept,
    n: int,
    *,
    seed: int = 0,
    world: World = OPEN,
    bank: str | None = None,
    avoid: Iterable[str] = (),
) -> list[Case]:
    """`n` prompts that name the concept, each with a seed of its own.

    From the bank of the model's `world`, or from `bank` (a name or a file). `avoid` are prompts not to be
    used (those of an evaluation). Where the bank has fewer, prompts repeat with other seeds. Raises UserError
    where none is left or n is less than 1.
    """
    if n < 1:
        raise UserError(f"an attack needs at least 1 prompt, found {n}")
    taken = {prompt.strip() for prompt in avoid}
    sentences = load_bank(bank or world.bank)
    asked = sentences.evaluation(concept, n * _SPARE, "in-set", _number(seed, concept, "prompts"))
    left = list(dict.fromkeys(text.strip() for text in asked if text.strip() and text.strip() not in taken))
    if not left:
        raise UserError(f"no prompt about {concept.name!r} is left to attack: all are used by the evaluation")
    return [Case(left[index % len(left)], _number(seed, concept, f"picture {index}")) for index in range(n)]


def _number(seed: int, concept: Concept, what: str) -> int:
    text = f"prompt attack/{seed}/{concept.kind}/{concept.name}/{what}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") >> 1
