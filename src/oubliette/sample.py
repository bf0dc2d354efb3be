"""What a model makes of prompts: pictures on a sheet, or text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from oubliette.errors import UserError
from oubliette.sheet import check_target, write_sheet
from oubliette.train.progress import progress

if TYPE_CHECKING:
    from oubliette.backends.base import Backend

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
    return _BY_KIND[model.kind](model, list(prompts), how)


def _draw(model: Any, prompts: list[str], how: dict[str, Any]) -> dict[str, Any]:
    if how["out"] is None:
        raise UserError("no place for the pictures was given; --out FILE.png")
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


def _answer(model: Any, prompts: list[str], how: dict[str, Any]) -> dict[str, Any]:
    return {
        "model": model.source,
        "prompts": prompts,
        "answers": model.respond(prompts, max_new_tokens=how["tokens"]),
    }


_BY_KIND: dict[str, Callable[[Backend, list[str], dict[str, Any]], dict[str, Any]]] = {
    "diffusion": _draw,
    "language": _answer,
}
