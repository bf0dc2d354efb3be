"""Prompts found on one model, drawn by another: does the attack carry over?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from oubliette.attack.prompts.records import Found, read_found
from oubliette.attack.prompts.target import Draw, Proposal, Target
from oubliette.attack.types import Hits, How, Sampling
from oubliette.core.errors import UserError

__all__ = ["replay"]


def replay(
    model: Any,
    found: Sequence[Found] | Path | str,
    hits: Hits,
    *,
    sampling: How | None = None,
    draw: Draw | None = None,
) -> list[Found]:
    """Ask `model` with the prompts of a CSV (or of a search), each with its own seed; a `Found` a row.

    `before` says whether this model shows the concept for the original prompt, `after` whether it does for
    that or the adversarial one, so that pre-ASR and ASR mean what they mean for a search of one try. A table
    of another group's that has no original prompts is drawn as it is, with `before` always False.
    """
    rows = read_found(found) if isinstance(found, (str, Path)) else list(found)
    if not rows:
        raise UserError("there are no prompts to replay")
    named = not isinstance(found, (str, Path)) or any(row.text != row.case.prompt for row in rows)
    target = Target(model, hits, sampling or Sampling(), draw)
    seeds = [row.case.seed for row in rows]
    asked = [row.case.prompt for row in rows]
    before = [False] * len(rows)
    if named:
        before = [bool(hit) for hit in target.look([Proposal(text) for text in asked], asked, seeds)[0]]
    made = [replace(row, before=hit, after=hit, tries=0) for row, hit in zip(rows, before, strict=True)]
    left = [n for n, row in enumerate(made) if not row.before and (not named or row.text != row.case.prompt)]
    again = [Proposal(rows[n].prompt, opening=rows[n].opening) for n in left]
    shown, samples = target.look(again, [asked[n] for n in left], [seeds[n] for n in left])
    for n, hit, sample in zip(left, shown, samples, strict=True):
        made[n] = replace(made[n], after=bool(hit), tries=1, last=sample)
    return made
