"""What a recipe will cost, before anything is done: tensors that may move, passes, seconds and memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from oubliette.recipe import Recipe
from oubliette.train.cost import Cost, StepCost

if TYPE_CHECKING:
    from torch import nn

    from oubliette.backends.base import Backend
    from oubliette.data.questions import QA
    from oubliette.train.attribution import Attribution

__all__ = ["estimate"]

_MIB = 2**20


def estimate(
    model: Backend, recipe: Recipe, rows: Mapping[str, Sequence[QA]] | None = None
) -> dict[str, Any]:
    """Trained tensors and parameters, about how many items pass through the network, and what that takes
    here.

    `forwards` and `backwards` count one item (a noised picture, a row of text) each, every process and
    micro-batch together; `pictures` are drawn beforehand, each `steps x 2` forwards with guidance, which
    `forwards` holds too. An upper estimate: the few passes that a method shares between roles count twice.
    What a method takes it says itself (`step_cost`). Of a measured scope the tensors are the most that may be
    chosen, and `measuring` is how many of the forwards choose them. `rows` take the place of its files.

    `seconds` are those counts times what one item's passes took just now (`train.timing`; `measured` says how
    many), those of the drawing at the pace of a batch of pictures, without the loop's own share, which is at
    most a tenth. `memory` is in MiB: the weights; for a trained method also the originals, gradients and
    optimiser state of what is trained, and the graph of one micro-batch; not what a smoother or a surgery
    holds. Both are None where nothing passes through the
    network.
    """
    from oubliette.erase import METHODS
    from oubliette.train.adapters import layers_in
    from oubliette.train.freeze import apply_freeze
    from oubliette.train.scope import check_scope, measured_rule, select

    method = METHODS.get(recipe.method["name"])
    named = apply_freeze(select(model, recipe.scope, measured=True), recipe.freeze, known=model.tensors())
    scope, rule = check_scope(recipe.scope), measured_rule(recipe.scope)
    rank = scope.rank
    if rank is not None:
        named = layers_in(model, named)
    if rule is not None:
        named = {name: named[name] for name in rule.largest(model, scope.top, named)}
    if method.solution == "attached":
        named = {}
    found: dict[str, Any] = {
        "method": method.name,
        "solution": method.solution,
        "concepts": len(recipe.concepts),
        "budget": f"{recipe.budget_for} times the preset's"
        if recipe.budget_for > 1
        else "as the recipe has it",
        "tensors": len(named),
        "parameters": sum(_moving(parameter, rank) for parameter in named.values()),
        "of_parameters": sum(parameter.numel() for parameter in model.tensors().values()),
        "pictures": 0,
        "forwards": 0,
        "backwards": 0,
    }
    cost = StepCost()
    if method.solution == "trained":
        cost = method.step_cost(recipe.method_options())
        found.update(_trained(recipe, cost))
    if rule is not None:
        measuring = _measuring(model, recipe, rule, rows)
        found["forwards"] += measuring.forwards
        found["pictures"] += measuring.pictures
        found["measuring"] = measuring.forwards
    return {**found, **_measured(model, recipe, list(named.values()), found, cost)}


def _trained(recipe: Recipe, cost: StepCost) -> dict[str, int]:
    from oubliette.erase import ELEMENTS
    from oubliette.train.scope import check_scope

    train = recipe.train
    items = train.batch * train.accumulation
    warm = min(cost.warm_up, train.steps)
    updates, retain = train.steps - warm, _retains(recipe, cost)
    extra = recipe.make_smoother().extra_passes
    draws = 1 + extra.draws
    backwards = (1 + extra.backwards) * (1 + cost.inner) + extra.inner + draws * cost.backwards
    backwards = updates * items * (backwards + retain * (1 + extra.retain_backwards))
    # Every draw has a frozen pass for the forget loss's target; so has a step of warm-up.
    forwards = (1 + extra.forwards) * (1 + cost.inner) + extra.inner + draws * (1 + cost.forwards)
    forwards = updates * items * (forwards + retain * (1 + extra.retain_forwards)) + warm * items * 2
    forwards += (train.steps + updates * extra.draws) * items * cost.trajectory
    pictures = recipe.data.pictures * cost.pictures if recipe.data.path is None else 0
    forwards += pictures * recipe.data.picture_steps * 2
    elements = check_scope(recipe.scope).elements
    if elements is not None:
        chosen = ELEMENTS.build(elements).passes(recipe.data.pictures)
        forwards, backwards = forwards + chosen.forwards, backwards + chosen.backwards
    return {"pictures": pictures, "forwards": round(forwards), "backwards": round(backwards)}


def _measuring(
    model: Backend, recipe: Recipe, rule: Attribution, rows: Mapping[str, Sequence[QA]] | None
) -> Cost:
    """What choosing the tensors takes: every block's absence and none, on the forget data."""
    from oubliette.erase import PREPARERS
    from oubliette.erase.request import ErasureRequest

    request = ErasureRequest.from_recipe(recipe, rows)
    data = PREPARERS.get(model.kind)(model, request, seed=recipe.seed, show_progress=False)
    once = data.measured()
    drawn = once.pictures * recipe.data.picture_steps * 2
    return Cost(forwards=rule.forwards(model, once.forwards) + drawn, pictures=once.pictures)


def _retains(recipe: Recipe, cost: StepCost) -> float:
    """Retain items that a step has passes of, for each of its forget items."""
    return cost.retain_batch if recipe.retain is not None or cost.retains else 0.0


def _measured(
    model: Backend,
    recipe: Recipe,
    trained: Sequence[nn.Parameter],
    found: Mapping[str, Any],
    cost: StepCost,
) -> dict[str, Any]:
    """Seconds and MiB of the counted passes, from a few that are made now."""
    from oubliette.erase.latents import BATCH
    from oubliette.train.timing import forward_among, time_passes

    if not found["forwards"]:
        return {"seconds": None, "memory": None, "measured": "nothing: no pass was counted"}
    pace = time_passes(model, trained, recipe.train.batch)
    weights = sum(p.numel() * p.itemsize for module in model.modules().values() for p in module.parameters())
    held = {
        "weights": weights,
        "trained": sum(_held_for(parameter, recipe, cost) for parameter in trained),
        "graph": round(pace.graph * recipe.train.batch * max(1.0, _retains(recipe, cost))),
    }
    # Each picture with its prompt and with none; a batch is larger than a step's, and goes faster.
    drawn, drawing = found["pictures"] * recipe.data.picture_steps * 2, pace.forward
    rows = 2 * min(BATCH, found["pictures"])
    if rows > pace.items:
        drawing = forward_among(model, rows, pace.forward)
    passes = (found["forwards"] - drawn) * pace.forward + found["backwards"] * pace.backward
    return {
        "seconds": round(passes + drawn * drawing, 1),
        "seconds_a_forward": round(pace.forward, 6),
        "seconds_a_drawn_forward": round(drawing, 6),
        "seconds_a_backward": round(pace.backward, 6),
        "memory": round(sum(held.values()) / _MIB),
        **{f"memory_{name}": round(size / _MIB) for name, size in held.items()},
        "measured": pace.facts()["measured"],
    }


def _held_for(parameter: nn.Parameter, recipe: Recipe, cost: StepCost) -> int:
    """Bytes beside a tensor that is trained: its original, its gradients, what the optimiser keeps.

    Of one under adapters: the adapters, their gradients, what the optimiser keeps of them.
    """
    from oubliette.train.scope import check_scope

    count, rank = parameter.numel(), check_scope(recipe.scope).rank
    moved = _moving(parameter, rank)
    masters = moved if rank is not None or parameter.itemsize < 4 else 0
    states = 1 if recipe.train.optimizer == "sgd" else 2
    gradients = moved * (2 if _retains(recipe, cost) else 1)
    original = 0 if rank is not None else count * parameter.itemsize
    return original + 4 * (gradients + masters + states * moved)


def _moving(parameter: nn.Parameter, rank: int | None) -> int:
    """How many numbers are trained: the tensor's own, or those of an adapter over it."""
    return parameter.numel() if rank is None else rank * (len(parameter) + parameter[0].numel())
