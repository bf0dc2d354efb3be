"""Did it work? The same seeds before and after an erasure, judged, within a time that a user will wait."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from oubliette.core.errors import UserError, suggest
from oubliette.core.progress import progress
from oubliette.data.concept import Concept
from oubliette.eval.rows import row_name
from oubliette.eval.sample_store import SampleStore
from oubliette.workflows.check_size import AUTO_SECONDS, Fitted, fit
from oubliette.workflows.modality import modality_of

if TYPE_CHECKING:
    from oubliette.data.questions import QA
    from oubliette.erase.result import Reversible
    from oubliette.eval.evaluator import Evaluator
    from oubliette.eval.judge import Judge
    from oubliette.eval.result import Evaluation
    from oubliette.eval.sample_store import How
    from oubliette.eval.text.likelihood import Answered
    from oubliette.eval.verdict import Bounds
    from oubliette.recipe import Recipe

__all__ = [
    "AUTO_SECONDS",
    "MODES",
    "Check",
    "OriginalView",
    "check",
    "check_covering",
    "check_mode",
    "fitted",
    "judges_for",
    "open_judges",
    "sets_in",
]

MODES = ("auto", "on", "off")
#: Rows of a set whose answers' likelihood `auto` looks at: seconds on a small model, and enough for a mean.
_ROWS = 128


@dataclass(frozen=True)
class Check:
    """What a check found: the `evaluation` with its verdict, and the likelihood of a language model's
    `answers`. `reason` says in words why there is no evaluation.
    """

    evaluation: Evaluation | None
    reason: str = ""
    seconds: float = 0.0
    answers: Answered | None = None

    @property
    def made(self) -> bool:
        """Whether anything was looked at."""
        return self.evaluation is not None or self.answers is not None


def check_mode(mode: str) -> str:
    """The mode, if it is one of MODES; UserError otherwise."""
    if mode not in MODES:
        raise UserError(f"no check mode '{mode}'; {suggest(mode, MODES)}")
    return mode


def open_judges(model: Any, names: Sequence[Judge | str]) -> list[Judge]:
    """The judges of these names or folders, or as they are; by default the world's (none is known: none).

    Raises UserError for a judge that cannot be opened, or a model whose outputs judges cannot see.
    """
    return modality_of(model).judges(model, names)


def judges_for(
    model: Any,
    names: Sequence[Judge | str],
    concepts: Sequence[Concept],
    *,
    mode: str,
    required: float | None,
    sets: Mapping[str, Sequence[QA]] | None = None,
) -> list[Judge]:
    """`open_judges` for an erasure of these concepts or sets of rows, none where the mode is "off".

    Raises UserError for what could only end without a verdict: a named judge that covers none of the
    concepts, and a required leakage of sets of rows that cannot be measured.
    """
    modality = modality_of(model)
    if required is not None and (why := modality.refused(model, sets or {})) is not None:
        raise UserError(f"--require-leakage needs a verdict, and there could be none: {why}")
    if mode == "off":
        return []
    judges = modality.judges(model, names)
    if names:
        check_covering(judges, concepts)
    return judges


def check_covering(judges: Sequence[Judge], concepts: Sequence[Concept]) -> None:
    """UserError for a judge that knows none of the concepts, which it would be named for in vain."""
    for judge in judges:
        if concepts and not any(judge.covers(concept) for concept in concepts):
            what = ", ".join(repr(concept.name) for concept in concepts)
            raise UserError(
                f"judge {judge.name} does not know {what}: it could say nothing of it; name another judge "
                "(a clip:MODEL of your own knows any word), or leave it out"
            )


def sets_in(recipe: Recipe) -> dict[str, list[QA]]:
    """The questions and answers that a recipe forgets and retains, by that word; {} where it names none."""
    from oubliette.data.questions import read_questions

    named = {"forget": recipe.forget, "retain": recipe.retain}
    return {name: read_questions(path) for name, path in named.items() if path is not None}


class OriginalView:
    """A model as it was before an erasure, over the same network: originals are swapped in while it is asked.

    No second copy of the weights; every bit of the erased model is back when a call returns. Whatever else is
    asked of it is the model's own.
    """

    _ASKED = frozenset({"draw", "respond", "fingerprint"})

    def __init__(self, model: Any, weights: Reversible) -> None:
        self._model, self._weights = model, weights

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._model, name)
        if name not in self._ASKED:
            return found

        def before(*given: Any, **how: Any) -> Any:
            with self._weights.originals():
                return found(*given, **how)

        return before


def check(
    model: Any,
    weights: Reversible,
    concepts: Sequence[Concept],
    *,
    mode: str = "auto",
    judges: Sequence[Judge],
    bounds: Bounds | None = None,
    seed: int = 0,
    cache: SampleStore | None = None,
    sampling: How | None = None,
    limit: float = AUTO_SECONDS,
    size: int | None = None,
    sets: Mapping[str, Sequence[QA]] | None = None,
    name: str | None = None,
    verdict: bool = True,
) -> Check:
    """Ask for what was erased and its neighbours before and after with the same seeds, and judge it.

    `name` is what the row of the model is called, by default the last part of its source. `judges` are those
    of `open_judges`; where none is known the answer is "not checked". The number of samples is `size`, or
    what `fitted` makes of mode and limit. Where there are `sets` of questions and answers, and the model
    answers, their likelihood is taken too (`eval.text.likelihood`), in mode "auto" of some rows; without
    `verdict` that is all.
    """
    started = time.monotonic()
    answers = _likelihood(model, weights, sets or {}, check_mode(mode))
    found = Fitted(None, "")
    if verdict or answers is None:
        found = fitted(
            model,
            weights,
            concepts,
            mode=mode,
            judges=judges,
            seed=seed,
            sampling=sampling,
            limit=limit,
            size=size,
            sets=sets,
            cache=cache,
        )
    if found.size is None or found.evaluator is None:
        return Check(None, found.reason, 0.0 if answers is None else time.monotonic() - started, answers)
    evaluation = _measure(
        {row_name(name or model.source): model},
        OriginalView(model, weights),
        found.evaluator,
        found.size,
        seed,
        cache,
        bounds,
    )
    return Check(evaluation, "", time.monotonic() - started, answers)


def fitted(
    model: Any,
    weights: Reversible,
    concepts: Sequence[Concept],
    *,
    mode: str,
    judges: Sequence[Judge],
    sets: Mapping[str, Sequence[QA]] | None = None,
    **options: Any,
) -> Fitted:
    """How large a check of this erasure is, and what measures it; `check_size.fit` has the options."""
    before = OriginalView(model, weights)
    return fit(model, before, concepts, mode=check_mode(mode), judges=judges, sets=sets or {}, **options)


def _likelihood(
    model: Any, weights: Reversible, sets: Mapping[str, Sequence[QA]], mode: str
) -> Answered | None:
    if not sets or mode == "off":
        return None
    from oubliette.eval.text.likelihood import Answers, answered

    if not isinstance(model, Answers):
        return None
    return answered(model, weights.originals, sets, limit=_ROWS if mode == "auto" else None)


def _measure(
    models: Mapping[str, Any],
    before: OriginalView,
    evaluator: Evaluator,
    size: int,
    seed: int,
    cache: SampleStore | None,
    bounds: Bounds | None,
) -> Evaluation:
    from oubliette.eval.evaluate import measure

    how = modality_of(before).sized(size)
    total = evaluator.plan(**how, seed=seed).pictures(1)
    with progress("checking", total, evaluator.noun) as tick:
        told: Callable[[int, int, str], None] = lambda done, _, who: tick(done, who)  # noqa: E731
        return measure(models, before, evaluator, seed=seed, cache=cache, bounds=bounds, progress=told, **how)
