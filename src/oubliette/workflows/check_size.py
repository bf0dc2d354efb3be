"""How large a check after an erasure is, within a time that a user will wait."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from oubliette.workflows.modality import modality_of

if TYPE_CHECKING:
    from oubliette.data.concept import Concept
    from oubliette.data.questions import QA
    from oubliette.eval.evaluator import Evaluator
    from oubliette.eval.judge import Judge
    from oubliette.eval.plan import Plan
    from oubliette.eval.sample_store import How, SampleStore

__all__ = ["AUTO_SECONDS", "Fitted", "fit"]

#: `auto` does not check where that is estimated to take longer.
AUTO_SECONDS = 60.0


class Fitted(NamedTuple):
    """Samples a concept and split, None where there are none and `reason` why; and what measures them."""

    size: int | None
    reason: str
    evaluator: Evaluator | None = None

    @property
    def how(self) -> How | None:
        """How the model is asked."""
        return None if self.evaluator is None else self.evaluator.sampling


def fit(
    model: Any,
    before: Any,
    concepts: Sequence[Concept],
    *,
    mode: str,
    judges: Sequence[Judge],
    sets: Mapping[str, Sequence[QA]],
    seed: int = 0,
    sampling: How | None = None,
    limit: float = AUTO_SECONDS,
    size: int | None = None,
    cache: SampleStore | None = None,
) -> Fitted:
    """How many samples a concept and split a check takes, and what measures them.

    In mode "auto" as many as fit into `limit` seconds, those that `cache` holds taking none; asked more
    cheaply (fewer denoising steps) where too few would fit for a clean result to be called clean, unless
    `sampling` is given. A check that does not fit even so is skipped with a word. "on" takes the most
    whatever it costs. A `size` that is given stands.
    """
    if mode == "off":
        return Fitted(None, "switched off")
    modality = modality_of(model)
    evaluator = modality.checker(before, concepts, judges, sets, sampling)
    if isinstance(evaluator, str):
        return Fitted(None, evaluator)
    tries = modality.tries(evaluator.sampling, fixed=sampling is not None)
    if size is not None or mode == "on":
        return Fitted(size or max(count for _, count in tries), "", evaluator)
    pace = modality.seconds(before, evaluator) / evaluator.sampling.passes
    known = None if cache is None or cache.empty else (model.fingerprint(), before.fingerprint())
    plans: dict[int, Plan] = {}
    estimate = 0.0
    for how, count in tries:
        if count not in plans:
            plans[count] = evaluator.plan(**modality.sized(count), seed=seed)
        estimate = pace * how.passes * _to_make(plans[count], model, known, cache, how)
        if estimate <= limit:
            if how != evaluator.sampling:
                evaluator = modality.checker(before, concepts, judges, sets, how)
                assert not isinstance(evaluator, str)
            return Fitted(count, "", evaluator)
    return Fitted(
        None, f"it would take about {estimate:.0f} s, over {limit:.0f} s (--check on does it anyway)"
    )


def _to_make(
    plan: Plan, model: Any, known: tuple[str, str] | None, cache: SampleStore | None, how: How
) -> int:
    """How many samples of a plan are not in the cache; `known` are the hashes of the model and its base."""
    if known is None or cache is None:
        return plan.pictures(1)
    facts = how.facts(model)
    return sum(cache.missing(who, pairs, facts) for who, pairs in zip(known, plan.drawn, strict=True))
