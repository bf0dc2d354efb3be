"""Erasing from a recipe: one straight line for every method and every kind of model."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from torch import nn

from oubliette.backends.attachment import Attachable
from oubliette.core.errors import UserError
from oubliette.erase import ELEMENTS, PREPARERS
from oubliette.erase.edit import apply_edits
from oubliette.erase.rehearse import settle
from oubliette.erase.result import AttachedEdit, AttachedWeights, EraseResult
from oubliette.recipe import Recipe
from oubliette.train.adapters import Adapters
from oubliette.train.checkpoint import has_checkpoint
from oubliette.train.loop import Loop
from oubliette.train.scope import check_scope, measured_rule
from oubliette.train.weights import Weights

if TYPE_CHECKING:
    from oubliette.backends.base import Backend
    from oubliette.data.questions import QA
    from oubliette.erase.result import Reversible
    from oubliette.train.attribution import Choice

Callback = Callable[[int, Any], None]


def erase(
    model: Backend,
    recipe: Recipe,
    *,
    callback: Callback | None = None,
    callback_every: int = 0,
    log: Path | str | None = None,
    cache: Path | str | None = None,
    checkpoint: Path | str | None = None,
    resume: bool = False,
    show_progress: bool = True,
    rows: Mapping[str, Sequence[QA]] | None = None,
    reference: Reversible | None = None,
) -> EraseResult:
    """Erase the recipe's concepts from `model`, in place.

    `callback(step, loop)` is called every `callback_every` updates of a trained method. `log` is a JSONL file
    of losses, `cache` a folder in which drawn anchor pictures are kept, `checkpoint` a folder from which
    `resume` goes on: from its checkpoint where there is one, else from the start. `rows` take the place of
    the files of the recipe's forget and retain sets. `reference` is what the objective takes for the original
    model, where that is not the model as it is now. Raises UserError for a recipe that cannot be run on this
    model; the model is then as it was before. So it is after any other error, and after an interrupt.
    """
    start = time.perf_counter()
    settled = settle(model, recipe, rows)
    method, scoped, request = settled.method, settled.scoped, settled.request
    eraser = method(recipe.method_options(), request)
    attached = method.solution == "attached"
    if attached and reference is not None:
        raise UserError(
            f"method '{method.name}' is attached: its original is the model without it, and no other"
        )
    data = PREPARERS.get(model.kind)(
        model,
        request,
        seed=recipe.seed,
        cache=None if cache is None else Path(cache),
        show_progress=show_progress,
    )
    scoped, choice = _chosen(model, recipe, scoped, data, show_progress)
    held = AttachedEdit(model) if attached else _weights(model, recipe, scoped, data)
    if isinstance(held, Weights) and reference is not None:
        held.refer_to(reference.originals)
    result = EraseResult(model, recipe, held, scope=None if choice is None else choice.facts())
    try:
        _RUNNERS[method.solution](
            result,
            eraser,
            data,
            scoped,
            start,
            loop_options={
                "callback": None if callback is None else _looking(held, callback),
                "callback_every": callback_every,
                "log": log,
                "checkpoint": checkpoint,
                "show_progress": show_progress,
            },
            resume=resume,
        )
        if isinstance(held, Weights):
            result.weights = held.settled()
    except BaseException:
        result.undo()
        raise
    return result


def _looking(held: Weights | AttachedEdit, callback: Callback) -> Callback:
    """The callback, to which the model has its usual layers and names."""

    def look(step: int, loop: Any) -> None:
        with held.plain():
            callback(step, loop)

    return look


def _chosen(
    model: Backend, recipe: Recipe, scoped: dict[str, nn.Parameter], data: Any, show_progress: bool
) -> tuple[dict[str, nn.Parameter], Choice | None]:
    """The scope's tensors, of a measured scope those that its measuring chose, and that choice."""
    rule = measured_rule(recipe.scope)
    if rule is None:
        return scoped, None
    top, items = check_scope(recipe.scope).top, data.measured().forwards
    choice = rule.choose(model, top, lambda: data.forget_loss(model), items, show_progress)
    return {name: scoped[name] for name in choice.names if name in scoped}, choice


def _weights(model: Backend, recipe: Recipe, scoped: dict[str, nn.Parameter], data: Any) -> Weights:
    """The scope's tensors, moved as it says: whole, in the elements of a mask, or by adapters over them."""
    scope = check_scope(recipe.scope)
    if scope.rank is not None:
        return Adapters(model, scoped, rank=scope.rank, alpha=scope.alpha, seed=recipe.seed)
    if scope.elements is None:
        return Weights(scoped)
    masks = ELEMENTS.build(scope.elements).masks(model, data, scoped, recipe.seed)
    return Weights(scoped, element_masks=masks)


def _train(
    result: EraseResult,
    objective: Any,
    data: Any,
    scoped: dict[str, nn.Parameter],
    start: float,
    *,
    loop_options: dict[str, Any],
    resume: bool,
    weights: Weights | None = None,
) -> None:
    recipe = result.recipe
    loop = Loop(
        result.model,
        objective,
        data,
        weights or cast(Weights, result.weights),
        recipe.train,
        surgery=recipe.make_surgery(),
        smoother=recipe.make_smoother(),
        seed=recipe.seed,
        **loop_options,
    )
    last = objective.roles(recipe.train.steps - 1)
    if not any(role.moves for role in last.values()):
        raise UserError(
            f"train.steps is {recipe.train.steps}, and '{objective.name}' is still warming up in the last: "
            "the model would not change; give more steps or a shorter method.warm_up"
        )
    checkpoint = loop_options["checkpoint"]
    if resume and checkpoint is not None and has_checkpoint(checkpoint):
        loop.load_checkpoint()
    ready = time.perf_counter()
    result.seconds["prepare"] = ready - start
    loop.run()
    result.seconds["optimise"] = time.perf_counter() - ready
    result.log = loop.records


def _solve(
    result: EraseResult,
    solver: Any,
    data: Any,
    scoped: dict[str, nn.Parameter],
    start: float,
    *,
    loop_options: dict[str, Any],
    resume: bool,
) -> None:
    ready = time.perf_counter()
    result.seconds["prepare"] = ready - start
    apply_edits(scoped, solver.solve(result.model, data, list(scoped)))
    result.seconds["optimise"] = time.perf_counter() - ready


def _attach(
    result: EraseResult,
    maker: Any,
    data: Any,
    scoped: dict[str, nn.Parameter],
    start: float,
    *,
    loop_options: dict[str, Any],
    resume: bool,
) -> None:
    model = cast(Attachable, result.model)  # any other is refused above
    attachment = maker.attachment(model, data, list(scoped))
    model.hold(attachment)
    trained = {name: each for name, each in attachment.tensors().items() if isinstance(each, nn.Parameter)}
    if trained:
        _train(
            result,
            getattr(maker, "objective", maker),
            data,
            scoped,
            start,
            loop_options=loop_options,
            resume=resume,
            weights=AttachedWeights(trained, cast(AttachedEdit, result.weights)),
        )
        return
    result.seconds["prepare"] = time.perf_counter() - start


_RUNNERS: dict[str, Callable[..., None]] = {"trained": _train, "solved": _solve, "attached": _attach}
