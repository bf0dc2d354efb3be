"""Learning a mask: one function from a model and two kinds of data to the tensors that must stay frozen."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from torch import Tensor

from oubliette.core.errors import UserError
from oubliette.core.run_folder import read_kept, write_kept
from oubliette.guard.learn.budget import Budget, cut
from oubliette.guard.learn.candidates import Candidates, Each, Shares
from oubliette.guard.learn.difference import DTYPES, Difference
from oubliette.guard.learn.draws import as_sets, halved, rows_of, seed_for
from oubliette.guard.learn.problem import RELEARNING, Found, Learner, Problem, curve, make_learner
from oubliette.guard.learn.spill import DiskTensors
from oubliette.guard.learn.stability import Stability, jaccard
from oubliette.guard.learn.user import relearn
from oubliette.train.config import TrainConfig
from oubliette.train.finetune import SupervisedData

if TYPE_CHECKING:
    from oubliette.backends.base import Backend

__all__ = ["Cut", "Learned", "learn"]


@dataclass(frozen=True)
class Cut:
    """What a budget freezes: full names of tensors, followers too, and both shares of the scope."""

    budget: Budget
    names: tuple[str, ...]
    got: Shares


@dataclass(frozen=True)
class Learned:
    """A mask as it was learned; `oubliette.guard.mask` makes it an artefact.

    `names` are the frozen tensors in the model's order, followers too, within `budget`; `got` what they are
    of the scope. `scores` are one number a candidate, worths or (`order`) an order, from which other budgets
    are cut. `further` are the other budgets asked for. `own` are the tensors of a mask that the learner made
    by itself, without regard to the budget. `facts` are plain data for the record.
    """

    candidates: Candidates
    budget: Budget
    names: tuple[str, ...]
    got: Shares
    scores: dict[str, float]
    order: bool
    further: tuple[Cut, ...] = ()
    stability: Stability | None = None
    own: tuple[str, ...] | None = None
    facts: dict[str, Any] = field(default_factory=dict)

    def cut(self, budget: Budget | float | Mapping[str, Any]) -> Cut:
        """Another budget from the same scores; UserError for one that not a single candidate fits."""
        return _cut(self.scores, self.order, self.candidates, Budget.read(budget))


def learn(
    model: Backend,
    *,
    illegal: SupervisedData | Sequence[SupervisedData],
    innocent: SupervisedData | Sequence[SupervisedData],
    learner: str | Mapping[str, Any] = "saliency",
    budget: Budget | float | Mapping[str, Any] = 0.3,
    budgets: Sequence[Budget | float | Mapping[str, Any]] = (),
    relearned: Backend | Mapping[str, Tensor] | None = None,
    user: TrainConfig = RELEARNING,
    scope: str | Mapping[str, Any] = "full",
    each: Each = "weight",
    batch: int = 4,
    seed: int = 0,
    split_half: bool = True,
    difference: str = "bfloat16",
    precision: Literal["fp32", "bf16"] = "fp32",
    keep: Path | None = None,
    show_progress: bool = False,
) -> Learned:
    """Find the tensors of `model` that must not move, for the illegal data to be learned badly and the
    innocent no worse.

    `learner` is a name in `oubliette.guard.learners.LEARNERS`, or a mapping with `name` and its options.
    `relearned` is theta_ft: a model fine-tuned from this one, or its tensors by name (read one at a time);
    None: the `user` fine-tunes this one on all the data, on the spot. `budget` is a share of the scope's
    parameters unless it says otherwise; `budgets` are further ones, cut from the same scores. `batch` is
    rows a side. With `split_half` the learner runs twice more, on half of the rows each (theta_ft is
    shared), so that the mask's stability stands beside it.

    `keep` is a folder in which what is done is kept, and from which the same call goes on: checkpoints of the
    user, theta_ft, what each pass of the learner found.

    The model comes back bit for bit, whatever happens; the same seed gives the same mask. UserError for
    missing data, an unknown learner, option, scope or budget, and a theta_ft of another architecture or
    equal to the model.
    """
    made = make_learner(learner)
    asked, others = Budget.read(budget), [Budget.read(other) for other in budgets]
    sides = as_sets(illegal, "illegal"), as_sets(innocent, "innocent")
    if difference not in DTYPES:
        raise UserError(f"guard: a difference is kept in {', '.join(DTYPES)}, found {difference!r}")
    candidates = Candidates.of(model, scope, each=each)
    for one in (asked, *others):  # one that nothing fits is refused before the work, not after it
        _cut(dict.fromkeys(candidates.names, 1.0), True, candidates, one)
    start = time.perf_counter()
    base = DiskTensors(candidates.of_model(model))
    try:
        how: dict[str, Any] = {"relearned": "given"}
        if relearned is None:
            moved, losses = relearn(
                model,
                candidates,
                base,
                sides,
                user,
                seed=seed,
                dtype=difference,
                keep=keep,
                show_progress=show_progress,
            )
            how = {
                "relearned": "on the spot",
                "user": user.model_dump(mode="json"),
                "user_losses": curve(losses),
            }
        else:
            moved = Difference.between(model, candidates, relearned, difference)
        how["seconds_relearning"] = round(time.perf_counter() - start, 3)
        problem = Problem(
            model,
            candidates,
            moved,
            *sides,
            batch=batch,
            seed=seed,
            user=user,
            precision=precision,
            show_progress=show_progress,
            base=base,
        )
        start = time.perf_counter()
        found = _found(made, problem, asked, keep, "whole")
        how["seconds_learning"] = round(time.perf_counter() - start, 3)
        stability = _stability(made, problem, asked, keep) if split_half else None
    finally:
        base.close()
    main = _cut(found.scores, found.order, candidates, asked)
    own = None if found.own is None else tuple(candidates.expand(found.own))
    facts: dict[str, Any] = {
        "learner": made.name,
        "options": made.options.model_dump(mode="json"),
        "seed": seed,
        "scope": candidates.scope,
        "each": each,
        "batch": batch,
        "rows": {"illegal": rows_of(sides[0]), "innocent": rows_of(sides[1])},
        "difference": difference,
        "precision": precision,
        "scores": "order" if found.order else "worth",
        "stability": None if stability is None else asdict(stability),
        "own": None if own is None else {"tensors": len(own), "got": asdict(candidates.shares(own))},
        "found": found.facts,
        **how,
    }
    return Learned(
        candidates=candidates,
        budget=asked,
        names=main.names,
        got=main.got,
        scores=found.scores,
        order=found.order,
        further=tuple(_cut(found.scores, found.order, candidates, other) for other in others),
        stability=stability,
        own=own,
        facts=facts,
    )


def _cut(scores: Mapping[str, float], order: bool, candidates: Candidates, budget: Budget) -> Cut:
    names = tuple(candidates.expand(cut(scores, candidates, budget, order=order)))
    return Cut(budget, names, candidates.shares(names))


def _found(learner: Learner, problem: Problem, budget: Budget, keep: Path | None, name: str) -> Found:
    """What the learner finds; kept under a name, or as it was kept."""
    path = None if keep is None else keep / "found" / f"{name}.json"
    content = None if path is None else read_kept(path)
    if content is not None:
        facts = json.loads(content)
        own = facts.pop("own")
        return Found(own=None if own is None else tuple(own), **facts)
    found = learner.learn(problem, budget)
    if path is not None:
        write_kept(path, json.dumps(asdict(found)).encode())
    return found


def _stability(learner: Learner, problem: Problem, budget: Budget, keep: Path | None) -> Stability:
    """Learn twice more, from either half of the rows, each with a seed of its own.

    With the same seed, a mask that is its random start's and not the data's would look stable.
    """
    halves = [halved(sets, problem.seed) for sets in (problem.illegal, problem.innocent)]
    masks: list[tuple[str, ...]] = []
    for place in range(2):
        part = replace(problem, seed=seed_for(problem.seed, "half", place))
        if halves[0] is not None and halves[1] is not None:
            part = replace(part, illegal=halves[0][place], innocent=halves[1][place])
        found = _found(learner, part, budget, keep, f"half-{place + 1}")
        masks.append(_cut(found.scores, found.order, problem.candidates, budget).names)
    share = problem.candidates.shares(masks[0]).parameters
    return Stability(
        parameters=jaccard(masks[0], masks[1], problem.candidates.sizes),
        tensors=jaccard(masks[0], masks[1]),
        chance=share / (2 - share),
        over="draws" if None in halves else "rows",
    )
