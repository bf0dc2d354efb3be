"""What a model makes of prompts: pictures on a sheet, or text."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from oubliette.core.errors import UserError
from oubliette.data.picture_sheet import check_target
from oubliette.workflows.modality import modality_of

__all__ = ["sample"]


def sample(
    source: Any,
    prompts: Sequence[str],
    *,
    out: Path | str | None = None,
    n: int = 4,
    seed: int = 0,
    steps: int = 25,
    guidance: float = 3.0,
    tokens: int = 64,
) -> dict[str, Any]:
    """Draw `n` pictures a prompt onto the sheet `out` (a row a prompt, a column a seed), or answer it.

    Seeds count up from `seed`; `steps` and `guidance` are the sampler's. A language model answers greedily
    with at most `tokens` tokens, and needs no `out`. Returns the facts of what was made.
    """
    if not prompts:
        raise UserError("no prompt was given; --prompt 'a picture of a car'")
    if n < 1:
        raise UserError(f"n must be at least 1 picture a prompt; found {n}")
    if out is not None:
        check_target(out)
    from oubliette.backends import open_model

    model = open_model(source)
    how = {"out": out, "n": n, "seed": seed, "steps": steps, "guidance": guidance, "tokens": tokens}
    return modality_of(model).sample(model, list(prompts), how)
