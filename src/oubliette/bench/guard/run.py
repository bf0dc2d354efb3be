"""The users of the guard's benchmark: fine-tuned under a mask or without one, and what they have learned."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from oubliette.bench.folder import seal, whole
from oubliette.bench.guard.masks import concept_of, mask_folder, open_base, painted
from oubliette.bench.guard.plan import BYPASS, GOLD, LESS, Cell, Plan
from oubliette.bench.guard.transplant import TRANSPLANT, Donor
from oubliette.bench.words import slug
from oubliette.core.manifest import read_object, write_json
from oubliette.eval.pictures.sampling import Sampling
from oubliette.workflows.guard.apply import budget_for
from oubliette.workflows.guard.user import TrainingCurve, User, area, asked_of

__all__ = ["Used", "done", "finished", "run_cell"]

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
        return area(self.steps, self.illegal)


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
    user = _Users(plan, model, cell, frozen, changes, out)
    made = user.train(arm.illegal, plan.at)
    ends = {name: user.train(name, [0, plan.at[-1]]) for name in plan.innocent}
    used = Used(
        **cell.model_dump(),
        steps=list(plan.at),
        illegal=made.rates,
        innocent={name: end.rates[-1] for name, end in ends.items()},
        before={name: end.rates[0] for name, end in ends.items()},
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
    seal(path)
    return time.monotonic() - started


def finished(plan: Plan, out: Path) -> list[Used]:
    """The users that are done, in the plan's order."""
    paths = [_path(out, cell) for cell in plan.cells() if done(out, cell)]
    return [Used(**json.loads(path.read_text("utf-8"))) for path in paths]


class _Users:
    """The users of a cell: the same start, fine-tuned on one concept after the other."""

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

        self.plan, self.model, self.cell = plan, model, cell
        donor = Donor(plan, plan.arm(cell.arm)) if cell.mode == TRANSPLANT else None
        self.mode = "full" if donor is not None else cell.mode
        self.budget = budget_for(model, "lora" if cell.mode == "lora" else "full", changes)
        if cell.mode == "textual-inversion":
            self.budget = self.budget.changed(learning_rate=3e-2, clip=None)
        self.user = User(
            model,
            default_judges(model)[0],
            self.mode,
            self.budget,
            frozen=list(frozen),
            how=Sampling(plan.sampling_steps, plan.guidance),
            starts=out / "starts" / model.fingerprint(),
            lent=donor,
        )

    def train(self, name: str, at: Sequence[int]) -> TrainingCurve:
        """Train on pictures of the concept `name`, judging the concept's own prompts at the steps in `at`."""
        from oubliette.eval.surroundings import words_of

        concept = concept_of(self.model, name)
        asked = asked_of(self.model, concept, self.plan.pictures, self.cell.seed)
        data = painted(self.model, name, self.cell.seed, user=True, avoid=tuple(asked.prompts))
        inverted = self.mode == "textual-inversion"
        words = tuple(words_of(self.model, concept))
        self.user.options = {"words": words, "initialiser": concept.anchor} if inverted else {}
        return self.user.train(concept, data, asked, at, name=slug(name, str(self.cell.seed)))


def _gold(plan: Plan) -> Any:
    from oubliette.backends import open_model

    return open_model(plan.gold)


def _gentler(plan: Plan, cell: Cell, out: Path) -> float:
    """The learning rate at which a user without a mask drifts as far as one under the first learner's mask.

    AdamW's steps are proportional to the rate, so the free user's own drift gives it.
    """
    pair = []
    for guard, share in (("none", None), (plan.learners[0].name, cell.share)):
        other = cell.model_copy(update={"guard": guard, "share": share})
        if not done(out, other):
            run_cell(plan, other, out)
        pair.append(read_object(_path(out, other)))
    free, masked = pair
    return float(free["learning_rate"]) * float(masked["drift"]) / float(free["drift"])


def done(out: Path, cell: Cell) -> bool:
    """Whether `out` holds the user's outcome."""
    return whole(_path(out, cell))


def _path(out: Path, cell: Cell) -> Path:
    return out / "cells" / f"{cell.key}.json"
