"""The closed forms on SD-1.5's shapes: solving alone, with the prompts encoded before."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from cost.steps import Measured, _peak, _resident
from oubliette.data.concept import Concept
from oubliette.erase import METHODS
from oubliette.erase.prepare import prepare
from oubliette.erase.request import ErasureRequest
from oubliette.train.scope import select

__all__ = ["BARS", "measure_closed"]

#: (method, concepts, bar in seconds); RECE's is for one epoch.
BARS: list[tuple[str, int, float]] = [
    ("uce", 1, 1.0),
    ("uce", 100, 5.0),
    ("rece", 1, 5.0),
    ("speed", 1, 10.0),
]


def measure_closed(model: Any, name: str, count: int, clock: Callable[[], float]) -> Measured:
    """The seconds of one solve of `count` concepts, the edits being formed as they are applied (no file).

    The preset's own scope and options. RECE's seconds are those of one more epoch. `bare` is the bar.
    """
    from oubliette.recipe import build_recipe, read_recipe

    raw = read_recipe(name)
    concepts = tuple(Concept(f"thing {index}", "object") for index in range(count))
    request = ErasureRequest(concepts=concepts, bank="general", prompt_count=200, picture_count=count)
    data = prepare(model, request, seed=0, show_progress=False)
    recipe = build_recipe({**raw, "concepts": [{"name": "car", "anchor": "object"}]})
    scope = list(select(model, recipe.scope))
    options = recipe.method_options()
    bar = next(bar for method, n, bar in BARS if (method, n) == (name, count))

    def solve(**changes: Any) -> float:
        eraser = METHODS.get(name)(options.model_copy(update=changes), request)
        begun = clock()
        for edit in eraser.solve(model, data, scope):
            assert edit.delta is not None
        return clock() - begun

    solve()  # encodes the prompts
    held = _resident()
    begun = time.monotonic()
    seconds = solve()
    memory = (_peak() - held) / 2**20
    if name == "rece":
        seconds = solve(epochs=2) - solve(epochs=1)
    shown = f"{name}, {count} concept{'s' if count > 1 else ''}{', an epoch' if name == 'rece' else ''}"
    return Measured(
        "closed form",
        shown,
        seconds=seconds,
        bare=bar,
        memory=memory,
        pairs=1,
        shares={"wall": time.monotonic() - begun},
    )
