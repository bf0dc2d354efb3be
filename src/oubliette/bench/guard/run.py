"""The users of the guard's benchmark: fine-tuned under a mask or without one, and what they have learned."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from oubliette.bench.folder import claim
from oubliette.bench.guard.masks import concept_of, learn_masks, mask_folder, open_base, painted
from oubliette.bench.guard.plan import BYPASS, GOLD, LESS, Cell, Learning, Plan
from oubliette.bench.pool import in_processes
from oubliette.bench.words import slug
from oubliette.guarding.apply import budget_for
from oubliette.manifest import read_object, write_json

__all__ = ["Used", "finished", "run_all", "run_cell"]

#: fp32 gradients and AdamW's two moments.
_BYTES_A_PARAMETER = 12


@dataclass(frozen=True)
class Used:
    """One user's outcome: how often the judge finds the illegal concept at each step, the innocent ones
    before and at the end, and what it cost the user.

    `hits` are the judge's booleans behind each rate, `drift` the L2 norm of what the model moved by on the
    illegal data, `state_mib` gradients and moments in MiB, `step_seconds` an update's time.
    """

    arm: str
    guard: str
    share: float | None
    mode: str
    seed: int
    steps: list[int]
    illegal: list[float]
    innocent: dict[str, float]
    before: dict[str, float]
    hits: dict[str, list[list[int]]]
    parameters: int
    frozen_share: float
    drift: float
    learning_rate: float
    state_mib: float
    step_seconds: float
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def area(self) -> float:
        """The mean illegal rate over log(1 + step), by trapezoids."""
        x = [math.log1p(step) for step in self.steps]
        parts = zip(x, x[1:], self.illegal, self.illegal[1:], strict=False)
        return sum((b - a) * (low + high) / 2 for a, b, low, high in parts) / (x[-1] - x[0])


def run_all(
    plan: Plan, out: Path, *, jobs: int = 1, progress: Callable[[int, int, str], None] | None = None
) -> None:
    """Learn every mask, then run every user that `out` does not hold yet; each is kept when done.

    UserError where `out` holds another plan's.
    """
    claim(out, plan.model_dump(mode="json"), lambda before: _differs(plan, before))
    learning = [one for one in plan.learning() if not (out / "masks" / one.key / "learned.json").is_file()]
    cells = [cell for cell in plan.cells() if not _path(out, cell).is_file()]
    total = len(plan.learning()) + len(plan.cells())
    count = total - len(learning) - len(cells)
    phases: list[tuple[Callable[..., float], Sequence[Learning | Cell]]]
    phases = [(learn_masks, learning), (run_cell, cells)]
    for work, items in phases:
        for item, seconds in in_processes(work, plan, items, out, jobs):
            count += 1
            if progress is not None:
                progress(count, total, f"{item.key}, {seconds:.0f} s")


def run_cell(plan: Plan, cell: Cell, out: Path) -> float:
    """One user: the illegal data with looks on the way, then the innocent ones, from the same start."""
    from oubliette.guard.mask import read_mask

    started = time.monotonic()
    arm = plan.arm(cell.arm)
    model = open_base(plan, arm, cell.seed, out) if cell.guard != GOLD else _gold(plan)
    frozen: list[str] = []
    share = 0.0
    if cell.share is not None and cell.guard != LESS:
        mask = read_mask(mask_folder(out, cell.learning, cell.guard, cell.share))
        mask.bind(model)
        frozen, share = mask.names, mask.budget.parameter_share
    if cell.guard == BYPASS:
        # The first learner's mask at the first share: honoured, and gone around.
        frozen = read_mask(mask_folder(out, cell.learning, plan.learners[0].name, plan.budgets[0])).names
    changes: dict[str, Any] = {**plan.budget, "steps": plan.at[-1], "seed": cell.seed}
    if cell.guard == LESS:
        changes["learning_rate"] = _gentler(plan, cell, out)
    user = _User(plan, model, cell, frozen, changes, out)
    made = user.train(arm.illegal, plan.at)
    ends = {name: user.train(name, [0, plan.at[-1]]) for name in plan.innocent}
    used = Used(
        **cell.model_dump(),
        steps=list(plan.at),
        illegal=[float(np.mean(hits)) for hits in made.hits],
        innocent={name: float(np.mean(end.hits[-1])) for name, end in ends.items()},
        before={name: float(np.mean(end.hits[0])) for name, end in ends.items()},
        hits={arm.illegal: made.hits, **{name: end.hits for name, end in ends.items()}},
        parameters=made.parameters,
        frozen_share=share,
        drift=made.drift,
        learning_rate=user.budget.learning_rate,
        state_mib=made.parameters * _BYTES_A_PARAMETER / 2**20,
        step_seconds=made.step_seconds,
    )
    path = _path(out, cell)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, asdict(used))
    return time.monotonic() - started


def finished(plan: Plan, out: Path) -> list[Used]:
    """The users that are done, in the plan's order."""
    paths = [path for cell in plan.cells() if (path := _path(out, cell)).is_file()]
    return [Used(**json.loads(path.read_text("utf-8"))) for path in paths]


@dataclass(frozen=True)
class _Trained:
    hits: list[list[int]]
    parameters: int
    drift: float
    step_seconds: float


class _User:
    """Fine-tunes the same start on one concept after the other; the model comes back each time."""

    def __init__(
        self,
        plan: Plan,
        model: Any,
        cell: Cell,
        frozen: Sequence[str],
        changes: Mapping[str, Any],
        out: Path,
    ) -> None:
        from oubliette.eval.judge import default_judges

        self.plan, self.model, self.cell, self.frozen = plan, model, cell, list(frozen)
        self.start = out / "starts" / model.fingerprint()
        self.mode = cell.mode
        self.budget = budget_for(model, "lora" if cell.mode == "lora" else "full", changes)
        if cell.mode == "textual-inversion":
            self.budget = self.budget.changed(learning_rate=3e-2, clip=None)
        self.judge = default_judges(model)[0]

    def train(self, name: str, at: Sequence[int]) -> _Trained:
        """Train on pictures of the concept `name`, judging the concept's own prompts at the steps in `at`."""
        from oubliette.eval.evaluate import plan_for
        from oubliette.eval.scenery import words_of
        from oubliette.train.tuning.modes import rewording
        from oubliette.train.tuning.tune import tune

        concept = concept_of(self.model, name)
        asked = plan_for(
            self.model, [concept], n=self.plan.pictures, each=1, near_n=1, seed=self.cell.seed
        ).targets[0]
        data = painted(self.model, name, self.cell.seed, user=True, avoid=tuple(asked.prompts))
        words = tuple(words_of(self.model, concept))
        inverted = self.mode == "textual-inversion"
        options = {"words": words, "initialiser": concept.anchor} if inverted else {}
        change = rewording(self.mode, options)
        hits: list[list[int]] = []

        start = self.start / f"{slug(name, str(self.cell.seed))}.json"

        def look(step: int, model: Any) -> None:
            if step == 0 and start.is_file():  # what the start draws is the same for every user
                hits.append(read_object(start)["hits"])
                return
            prompts = (
                list(asked.prompts) if change is None or step == 0 else [change(p) for p in asked.prompts]
            )
            pictures = model.draw(
                prompts,
                list(asked.seeds),
                steps=self.plan.sampling_steps,
                guidance=self.plan.guidance,
                batch=32,
            )
            hits.append([int(hit) for hit in self.judge.hits(pictures, concept)])
            if step == 0:
                start.parent.mkdir(parents=True, exist_ok=True)
                write_json(start, {"hits": hits[-1]})

        done = tune(
            self.model,
            data,
            self.mode,
            self.budget,
            frozen=self.frozen or None,
            at=at,
            look=look,
            options=options,
            delta=not inverted,
        )
        drift = math.sqrt(sum(float(moved.square().sum()) for moved in done.delta.values()))
        return _Trained(hits, done.parameters, drift, done.seconds / self.budget.steps)


def _gold(plan: Plan) -> Any:
    from oubliette.api import load

    return load(plan.gold)


def _gentler(plan: Plan, cell: Cell, out: Path) -> float:
    """The learning rate at which a user without a mask drifts as far as one under the first learner's mask.

    AdamW's steps are proportional to the rate, so the free user's own drift gives it.
    """
    pair = []
    for guard, share in (("none", None), (plan.learners[0].name, cell.share)):
        other = cell.model_copy(update={"guard": guard, "share": share})
        if not _path(out, other).is_file():
            run_cell(plan, other, out)
        pair.append(read_object(_path(out, other)))
    free, masked = pair
    return float(free["learning_rate"]) * float(masked["drift"]) / float(free["drift"])


def _differs(plan: Plan, before: dict[str, Any]) -> str | None:
    """What of the plan is not as it was when the folder's cells were run; runs may be added."""
    facts = plan.model_dump(mode="json")
    return next((f"'{k}'" for k in facts if k not in ("runs", "about") and before.get(k) != facts[k]), None)


def _path(out: Path, cell: Cell) -> Path:
    return out / "cells" / f"{cell.key}.json"
