"""How large a check after an erasure is, within a time that a user will wait."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

from oubliette.data.concept import Concept
from oubliette.eval.pictures.sampling import Sampling
from oubliette.train.timing import seconds_a_picture
from oubliette.workflows.original_view import OriginalView

if TYPE_CHECKING:
    from oubliette.erase.result import Reversible
    from oubliette.eval.judge import Judge
    from oubliette.eval.plan import Plan
    from oubliette.eval.sample_store import SampleStore

__all__ = ["AUTO_SECONDS", "Fitted", "fitted", "kept_beside", "planned", "sizes"]

#: `auto` does not check where that is estimated to take longer.
AUTO_SECONDS = 60.0
#: Pictures a concept and split, the most that fits being taken. Leakage is surely below 10 % where it is
#: found in none of 40, in one of 64, in two or three of 96; fewer can only tell what is not erased.
_SIZES = (96, 80, 64, 48, 40, 32, 24)
#: Where fewer than this many fit at the usual denoising steps, more are drawn with fewer steps.
_ENOUGH = 64
_FEWER_STEPS = 15
_EACH = 4
#: Pictures of a near neighbour, at most: its share is reported, and no verdict rests on it alone.
_NEAR = 24
_OTHERS_A_KIND = 2


class Fitted(NamedTuple):
    """Pictures a concept and split, None where there are none and `reason` why; and how they are drawn."""

    size: int | None
    reason: str
    sampling: Sampling


def fitted(
    model: Any,
    weights: Reversible,
    concepts: Sequence[Concept],
    *,
    mode: str,
    judges: Sequence[Judge],
    seed: int = 0,
    sampling: Sampling | None = None,
    limit: float = AUTO_SECONDS,
    size: int | None = None,
    cache: SampleStore | None = None,
) -> Fitted:
    """How many pictures a concept and split a check takes, and how they are drawn.

    In mode "auto" as many as fit into `limit` seconds, those that `cache` holds taking none; with fewer
    denoising steps where too few would fit for a clean result to be called clean, unless `sampling` is given.
    A check that does not fit even so is skipped with a word. "on" takes the most whatever it costs. A `size`
    that is given stands.
    """
    how = sampling or Sampling()

    def none(reason: str) -> Fitted:
        return Fitted(None, reason, how)

    if mode == "off":
        return none("switched off")
    if not hasattr(model, "draw"):
        return none("judges look at pictures, and this model draws none")
    if not judges:
        return none("no judge is known for this model; name one (--judge clip:MODEL, --judge FOLDER)")
    if not concepts:
        return none("the recipe names no concept")
    if not any(judge.covers(concept) for judge in judges for concept in concepts):
        return none(
            "none of this model's judges knows what was erased; name one that does (--judge clip:MODEL)"
        )
    if size is not None or mode == "on":
        return Fitted(size or _SIZES[0], "", how)
    before = OriginalView(model, weights)
    pace = seconds_a_picture(before, steps=how.steps, guidance=how.guidance, batch=how.batch) / how.steps
    fewer = replace(how, steps=min(how.steps, _FEWER_STEPS))
    tries = [(how, size) for size in _SIZES if sampling is not None or size >= _ENOUGH]
    tries += [] if sampling is not None else [(fewer, size) for size in _SIZES]
    plans = {size: planned(before, concepts, size, seed) for size in _SIZES}
    known = None if cache is None or cache.empty else (model.fingerprint(), before.fingerprint())
    estimate = 0.0
    for how, count in tries:
        estimate = pace * how.steps * _to_draw(plans[count], model, known, cache, how)
        if estimate <= limit:
            return Fitted(count, "", how)
    return none(f"it would take about {estimate:.0f} s, over {limit:.0f} s (--check on does it anyway)")


def _to_draw(
    plan: Plan, model: Any, known: tuple[str, str] | None, cache: SampleStore | None, how: Sampling
) -> int:
    """How many pictures of a plan are not in the cache; `known` are the hashes of the model and its base."""
    if known is None or cache is None:
        return plan.pictures(1)
    facts = how.facts(model)
    return sum(cache.missing(who, pairs, facts) for who, pairs in zip(known, plan.drawn, strict=True))


def sizes(size: int) -> dict[str, Any]:
    """How many pictures of each sort go with `size` of a concept, as `compare` takes them."""
    return {"n": size, "each": _EACH, "near_n": min(size // 2, _NEAR)}


def planned(before: OriginalView, concepts: Sequence[Concept], size: int, seed: int) -> Plan:
    """What a check of this size draws."""
    from oubliette.eval.pictures.evaluator import plan_for

    return plan_for(before, concepts, retained=kept_beside(before, concepts), seed=seed, **sizes(size))


def kept_beside(before: OriginalView, concepts: Sequence[Concept]) -> list[Concept]:
    """The declared neighbours, and a few others of each kind."""
    from oubliette.eval.surroundings import neighbours, rest_of_world

    rest = rest_of_world(before, concepts)
    near = {(c.kind, name) for c, name in neighbours(before, concepts, rest).items()}
    kept = [other for other in rest if (other.kind, other.name) in near]
    for kind in dict.fromkeys(other.kind for other in rest):
        kept += [other for other in rest if other.kind == kind and other not in kept][:_OTHERS_A_KIND]
    return kept
