"""What a model makes of prompts: pictures on a sheet, or text."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from oubliette.core.errors import UserError
from oubliette.core.progress import progress
from oubliette.data.picture_sheet import check_target, write_sheet
from oubliette.data.text import check_text, warn_of_cut
from oubliette.train.timing import seconds_a_picture

if TYPE_CHECKING:
    from oubliette.backends.base import Backend

__all__ = ["sample"]

#: Sampling steps, all pictures together, from which on the cost is said beforehand.
_WORTH_A_WORD = 500
_BYTES_A_PIXEL = 3 * 3  # three channels, held as batches, as a whole and as the sheet
_GIB = 2**30


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
    return _BY_KIND[model.kind](model, list(prompts), how)


def _draw(model: Any, prompts: list[str], how: dict[str, Any]) -> dict[str, Any]:
    if how["out"] is None:
        raise UserError("no place for the pictures was given; --out FILE.png")
    for prompt in prompts:
        check_text(prompt, "the prompt")
    warn_of_cut(model, prompts, "prompts")
    _say_cost(model, len(prompts) * how["n"], how["steps"], how["guidance"])
    seeds = list(range(how["seed"], how["seed"] + how["n"]))
    every = [prompt for prompt in prompts for _ in seeds]
    with progress("drawing", len(every), "pictures") as tick:
        pictures = model.draw(
            every,
            seeds * len(prompts),
            steps=how["steps"],
            guidance=how["guidance"],
            progress=lambda done, _: tick(done, ""),
        )
    path = write_sheet(pictures, how["out"], how["n"])
    return {"model": model.source, "prompts": prompts, "seeds": seeds, "out": str(path)}


def _say_cost(model: Any, count: int, steps: int, guidance: float) -> None:
    """A line on standard error before work that takes long; UserError for more than memory holds."""
    side = model.picture_side
    size = count * side * side * _BYTES_A_PIXEL
    held = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if size > held:
        raise UserError(
            f"{count} pictures of {side} x {side} take {size / _GIB:.3g} GiB of memory on the way to their "
            f"sheet, and this machine has {held / _GIB:.3g}; draw fewer at a time (--n, --seed)"
        )
    if count * steps < _WORTH_A_WORD:
        return
    seconds = count * seconds_a_picture(model, steps=steps, guidance=guidance)
    cost = f"about {_span(seconds)} here, and {size / _GIB:.2g} GiB of memory"
    print(f"oubliette: {count} pictures of {side} x {side}: {cost}", file=sys.stderr)


def _span(seconds: float) -> str:
    for unit, length in (("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"


def _answer(model: Any, prompts: list[str], how: dict[str, Any]) -> dict[str, Any]:
    for prompt in prompts:
        check_text(prompt, "the prompt", lines=True)
    return {
        "model": model.source,
        "prompts": prompts,
        "answers": model.respond(prompts, max_new_tokens=how["tokens"]),
    }


_BY_KIND: dict[str, Callable[[Backend, list[str], dict[str, Any]], dict[str, Any]]] = {
    "diffusion": _draw,
    "language": _answer,
}
