"""Erasing from a recipe: one straight line for every method and every kind of model."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from oubliette.erase import METHODS, PREPARERS
from oubliette.erase.edit import apply_edits
from oubliette.erase.request import ErasureRequest
from oubliette.errors import UserError
from oubliette.recipe import Recipe, validate
from oubliette.train.freeze import apply_freeze
from oubliette.train.loop import Loop
from oubliette.train.processes import Processes
from oubliette.train.scope import select
from oubliette.train.weights import Weights

if TYPE_CHECKING:
    from oubliette.backends.base import Backend

PHASES = ("load", "prepare", "optimise", "save", "evaluate")


@dataclass
class EraseResult:
    """What an erasure leaves in memory: the model, changed in place, and how that came about.

    `seconds` gives the time of each of PHASES; who loads and evaluates adds the time of that. `log` holds the
    loop's records, one a logged step ([] for a solved method). `changed` names the tensors that were in
    scope.
    """

    model: Backend
    recipe: Recipe
    weights: Weights
    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(PHASES, 0.0))
    log: list[dict[str, Any]] = field(default_factory=list)

    @property
    def losses(self) -> dict[str, list[float]]:
        """Each role's loss at the logged steps in which it took part."""
        found: dict[str, list[float]] = {}
        for record in self.log:
            for role, loss in record.get("loss", {}).items():
                found.setdefault(role, []).append(loss)
        return found

    @property
    def changed(self) -> list[str]:
        """Names of the tensors that were free to move."""
        return self.weights.names

    def undo(self) -> None:
        """Give every tensor its original bits back; the model is as it was before."""
        self.weights.restore()

    def record(self) -> dict[str, Any]:
        """What `oubliette.json` says of this erasure: method, concepts, seed, recipe, times, losses."""
        concepts = self.recipe.concepts
        return {
            "method": self.recipe.method["name"],
            "concepts": [concept.name for concept in concepts],
            "anchors": [concept.anchor for concept in concepts],
            "seed": self.recipe.seed,
            "recipe": self.recipe.model_dump(mode="json"),
            "seconds": {phase: round(seconds, 3) for phase, seconds in self.seconds.items()},
            "losses": {role: losses[-1] for role, losses in self.losses.items()},
        }

    def save(self, folder: Path | str, *, form: str | None = None, base: Backend | None = None) -> None:
        """Save the model with its record to a new folder, in `form` (full, delta) or the recipe's own.

        Under a multi-process launch the main process writes and the others wait.
        """
        start = time.perf_counter()
        processes = Processes(self.model.device)
        if processes.is_main:
            self.model.save(folder, form=form or self.recipe.save.form, base=base, record=self.record())
        processes.wait()
        self.seconds["save"] += time.perf_counter() - start


def erase(
    model: Backend,
    recipe: Recipe,
    *,
    callback: Callable[[int, Any], None] | None = None,
    callback_every: int = 0,
    log: Path | str | None = None,
    cache: Path | str | None = None,
    checkpoint: Path | str | None = None,
    resume: bool = False,
    show_progress: bool = True,
) -> EraseResult:
    """Erase the recipe's concepts from `model`, in place.

    `callback(step, loop)` is called every `callback_every` updates of a trained method. `log` is a JSONL file
    of losses, `cache` a folder in which drawn anchor pictures are kept, `checkpoint` a folder from which
    `resume` goes on. Raises UserError for a recipe that cannot be run on this model; the model is then as it
    was before. So it is after any other error, and after an interrupt.
    """
    validate(recipe)
    method = METHODS.get(recipe.method["name"])
    if method.backend != model.kind:
        fitting = [name for name in METHODS if METHODS.get(name).backend == model.kind]
        raise UserError(
            f"method '{method.name}' is for {method.backend} models, {model.source} is a {model.kind} model; "
            f"known for it: {', '.join(fitting)}"
        )
    start = time.perf_counter()
    scoped = apply_freeze(select(model, recipe.scope), recipe.freeze, known=model.tensors())
    request = ErasureRequest.from_recipe(recipe)
    eraser = method(recipe.method_options(), request)
    data = PREPARERS.get(model.kind)(
        model,
        request,
        seed=recipe.seed,
        cache=None if cache is None else Path(cache),
        show_progress=show_progress,
    )
    result = EraseResult(model, recipe, Weights(scoped))
    try:
        _RUNNERS[method.solution](
            result,
            eraser,
            data,
            start,
            loop_options={
                "callback": callback,
                "callback_every": callback_every,
                "log": log,
                "checkpoint": checkpoint,
                "show_progress": show_progress,
            },
            resume=resume,
        )
    except BaseException:
        result.undo()
        raise
    return result


def _train(
    result: EraseResult,
    objective: Any,
    data: Any,
    start: float,
    *,
    loop_options: dict[str, Any],
    resume: bool,
) -> None:
    recipe = result.recipe
    loop = Loop(
        result.model,
        objective,
        data,
        result.weights,
        recipe.train,
        surgery=recipe.make_surgery(),
        smoother=recipe.make_smoother(),
        seed=recipe.seed,
        **loop_options,
    )
    last = objective.roles(recipe.train.steps - 1)
    if all(role.kind == "helper" for role in last.values()):
        raise UserError(
            f"train.steps is {recipe.train.steps}, and '{objective.name}' is still warming up in the last: "
            "the model would not change; give more steps or a shorter method.warm_up"
        )
    if resume:
        loop.load_checkpoint()
    ready = time.perf_counter()
    result.seconds["prepare"] = ready - start
    loop.run()
    result.seconds["optimise"] = time.perf_counter() - ready
    result.log = loop.records


def _solve(
    result: EraseResult, solver: Any, data: Any, start: float, *, loop_options: dict[str, Any], resume: bool
) -> None:
    if resume:
        raise UserError(f"method '{solver.name}' is solved in one go: there is nothing to resume")
    ready = time.perf_counter()
    result.seconds["prepare"] = ready - start
    named = dict(zip(result.weights.names, result.weights.parameters, strict=True))
    apply_edits(named, solver.solve(result.model, data, result.weights.names))
    result.seconds["optimise"] = time.perf_counter() - ready


_RUNNERS: dict[str, Callable[..., None]] = {"trained": _train, "solved": _solve}
