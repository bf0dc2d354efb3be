"""Did it work? The same seeds before and after an erasure, judged, within a time that a user will wait."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from oubliette.core.errors import UserError, suggest
from oubliette.core.progress import progress
from oubliette.data.concept import Concept
from oubliette.eval.pictures.sampling import Sampling
from oubliette.eval.rows import row_name
from oubliette.eval.sample_store import SampleStore
from oubliette.workflows.check_size import AUTO_SECONDS, fitted, kept_beside, planned, sizes
from oubliette.workflows.original_view import OriginalView

if TYPE_CHECKING:
    from oubliette.data.questions import QA
    from oubliette.erase.result import Reversible
    from oubliette.eval.judge import Judge
    from oubliette.eval.result import Evaluation
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
#: Rows of a set whose answers `auto` looks at: seconds on a small model, and enough for a mean.
_ROWS = 128


@dataclass(frozen=True)
class Check:
    """What a check found in pictures (`evaluation`) or in answers (`answers`), or why there was none (both
    None, `reason` in words).
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
    from oubliette.eval.judge import default_judges, open_judge

    if names and not hasattr(model, "draw"):
        raise UserError(f"{model.source}: is a {model.kind} model; judges look at pictures")
    return [open_judge(j, model) if isinstance(j, str) else j for j in names] or default_judges(model)


def judges_for(
    model: Any,
    names: Sequence[Judge | str],
    concepts: Sequence[Concept],
    *,
    mode: str,
    required: float | None,
) -> list[Judge]:
    """`open_judges` for an erasure of these concepts, none where the mode is "off".

    Raises UserError for what could only end without a verdict: a named judge that covers none of the
    concepts, and a required leakage of a model that draws nothing.
    """
    if required is not None and not hasattr(model, "draw"):
        raise UserError(
            f"--require-leakage is judged on pictures, and {model.source} is a {model.kind} model; leave it "
            "out (the likelihood of the answers is printed before and after)"
        )
    if mode == "off":
        return []
    judges = open_judges(model, names)
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
    sampling: Sampling | None = None,
    limit: float = AUTO_SECONDS,
    size: int | None = None,
    sets: Mapping[str, Sequence[QA]] | None = None,
    name: str | None = None,
) -> Check:
    """Draw concepts and neighbours before and after with the same seeds, and judge them.

    `name` is what the row of the model is called, by default the last part of its source. `judges` are those
    of `open_judges`; without any the answer is "not checked". The number of pictures is
    `size`, or what `fitted` makes of mode and limit; so are the denoising steps, unless `sampling` is given.
    Where there are `sets` of questions and answers, and the model answers, their likelihood is taken instead
    (`eval.likelihood`), in mode "auto" of some rows.
    """
    started = time.monotonic()
    if check_mode(mode) != "off" and sets:
        from oubliette.eval.text.likelihood import Answers, answered

        if isinstance(model, Answers):
            found_in = answered(model, weights.originals, sets, limit=_ROWS if mode == "auto" else None)
            return Check(None, "", time.monotonic() - started, found_in)
    found, reason, how = fitted(
        model,
        weights,
        concepts,
        mode=mode,
        judges=judges,
        seed=seed,
        sampling=sampling,
        limit=limit,
        size=size,
        cache=cache,
    )
    if found is None:
        return Check(None, reason)
    row = {row_name(name or model.source): model}
    evaluation = _compare(
        row, OriginalView(model, weights), concepts, judges, found, how, seed, cache, bounds
    )
    return Check(evaluation, "", time.monotonic() - started)


def _compare(
    models: Mapping[str, Any],
    before: OriginalView,
    concepts: Sequence[Concept],
    judges: Sequence[Judge],
    size: int,
    how: Sampling,
    seed: int,
    cache: SampleStore | None,
    bounds: Bounds | None,
) -> Evaluation:
    from oubliette.eval.evaluate import compare

    total = planned(before, concepts, size, seed).pictures(1)
    with progress("checking", total, "pictures") as tick:
        told: Callable[[int, int, str], None] = lambda done, _, who: tick(done, who)  # noqa: E731
        return compare(
            models,
            before,
            concepts,
            judges=judges,
            retained=kept_beside(before, concepts),
            seed=seed,
            cache=cache,
            sampling=how,
            bounds=bounds,
            progress=told,
            **sizes(size),
        )
