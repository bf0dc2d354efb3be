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
from oubliette.train.timing import seconds_a_picture

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
#: `auto` does not check where that is estimated to take longer.
AUTO_SECONDS = 60.0
#: Pictures a concept and split, the most that fits being taken. Leakage is surely below 10 % where it is
#: found in none of 40, in one of 64, in two or three of 96; fewer can only tell what is not erased.
_SIZES = (96, 80, 64, 48, 40, 32, 24)
_EACH = 4
#: Pictures of a near neighbour, at most: its share is reported, and no verdict rests on it alone.
_NEAR = 24
_OTHERS_A_KIND = 2
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


class OriginalView:
    """A model as it was before an erasure, over the same network: originals are swapped in while it draws.

    No second copy of the weights; every bit of the erased model is back when a call returns. Whatever else is
    asked of it is the model's own.
    """

    def __init__(self, model: Any, weights: Reversible) -> None:
        self._model, self._weights = model, weights

    def fingerprint(self) -> str:
        """The hash of the weights before the erasure."""
        with self._weights.originals():
            return str(self._model.fingerprint())

    def draw(self, prompts: Sequence[str], seeds: Sequence[int], **how: Any) -> Any:
        """Pictures as the model drew them before, uint8 (n, H, W, 3)."""
        with self._weights.originals():
            return self._model.draw(prompts, seeds, **how)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)


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
    `size`, or what `fitted` makes of mode and limit. Where there are `sets` of questions and answers, and the
    model answers, their likelihood is taken instead (`eval.likelihood`), in mode "auto" of some rows.
    """
    started = time.monotonic()
    if sets and check_mode(mode) != "off":
        from oubliette.eval.text.likelihood import Answers, answered

        if isinstance(model, Answers):
            found_in = answered(model, weights.originals, sets, limit=_ROWS if mode == "auto" else None)
            return Check(None, "", time.monotonic() - started, found_in)
    how = sampling or Sampling()
    found, reason = fitted(
        model, weights, concepts, mode=mode, judges=judges, seed=seed, sampling=how, limit=limit, size=size
    )
    if found is None:
        return Check(None, reason)
    row = {row_name(name or model.source): model}
    evaluation = _compare(
        row, OriginalView(model, weights), concepts, judges, found, how, seed, cache, bounds
    )
    return Check(evaluation, "", time.monotonic() - started)


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
) -> tuple[int | None, str]:
    """How many pictures a concept and split a check takes, or None and why there is none.

    In mode "auto" as many as fit into `limit` seconds, and a check that does not fit is skipped with a word;
    "on" takes the most whatever it costs. A `size` that is given stands.
    """
    check_mode(mode)
    if mode == "off":
        return None, "switched off"
    if not hasattr(model, "draw"):
        return None, "judges look at pictures, and this model draws none"
    if not judges:
        return None, "no judge is known for this model; name one (--judge clip:MODEL, --judge FOLDER)"
    if not concepts:
        return None, "the recipe names no concept"
    if not any(judge.covers(concept) for judge in judges for concept in concepts):
        return (
            None,
            "none of this model's judges knows what was erased; name one that does (--judge clip:MODEL)",
        )
    if size is not None or mode == "on":
        return size or _SIZES[0], ""
    before, how = OriginalView(model, weights), sampling or Sampling()
    each = seconds_a_picture(before, steps=how.steps, guidance=how.guidance)
    estimate = 0.0
    for size in _SIZES:
        estimate = each * _plan(before, concepts, size, seed).pictures(1)
        if estimate <= limit:
            return size, ""
    return None, f"it would take about {estimate:.0f} s, over {limit:.0f} s (--check on does it anyway)"


def _sizes(size: int) -> dict[str, Any]:
    return {"n": size, "each": _EACH, "near_n": min(size // 2, _NEAR)}


def _plan(before: OriginalView, concepts: Sequence[Concept], size: int, seed: int) -> Any:
    from oubliette.eval.pictures.evaluator import plan_for

    return plan_for(before, concepts, retained=_kept(before, concepts), seed=seed, **_sizes(size))


def _kept(before: OriginalView, concepts: Sequence[Concept]) -> list[Concept]:
    """The declared neighbours, and a few others of each kind."""
    from oubliette.eval.surroundings import neighbours, rest_of_world

    rest = rest_of_world(before, concepts)
    near = {(c.kind, name) for c, name in neighbours(before, concepts, rest).items()}
    kept = [other for other in rest if (other.kind, other.name) in near]
    for kind in dict.fromkeys(other.kind for other in rest):
        kept += [other for other in rest if other.kind == kind and other not in kept][:_OTHERS_A_KIND]
    return kept


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

    total = _plan(before, concepts, size, seed).pictures(1)
    with progress("checking", total, "pictures") as tick:
        told: Callable[[int, int, str], None] = lambda done, _, who: tick(done, who)  # noqa: E731
        return compare(
            models,
            before,
            concepts,
            judges=judges,
            retained=_kept(before, concepts),
            seed=seed,
            cache=cache,
            sampling=how,
            bounds=bounds,
            progress=told,
            **_sizes(size),
        )
