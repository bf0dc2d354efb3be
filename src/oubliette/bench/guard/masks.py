"""The masks of one arm and seed: one fine-tuned model for all learners, several budgets from each."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from oubliette.bench.guard.plan import Arm, Learning, Plan
from oubliette.bench.words import slug
from oubliette.core.manifest import write_json
from oubliette.data.concept import Concept
from oubliette.train.finetune import SupervisedData
from oubliette.workflows.guard.apply import budget_for
from oubliette.world.world import world_of

__all__ = ["concept_of", "learn_masks", "learned", "mask_folder", "open_base", "painted"]

#: Users and publishers draw from the world's painter with seeds of their own.
_USER_SEEDS = 100


def learn_masks(plan: Plan, learning: Learning, out: Path) -> float:
    """Learn with every learner of the plan and write each budget's mask; the seconds that took."""
    from oubliette.guard.learn.budget import Budget
    from oubliette.guard.learn.learn import learn
    from oubliette.guard.learners import BASELINES
    from oubliette.guard.mask import Mask
    from oubliette.workflows.guard.learn import user_for

    started = time.monotonic()
    arm = plan.arm(learning.arm)
    model = open_base(plan, arm, learning.seed, out)
    illegal = [painted(model, arm.illegal, learning.seed)]
    innocent = [painted(model, name, learning.seed) for name in plan.learned_innocent]
    relearned = _relearned(plan, arm, learning, (illegal, innocent), out)
    budgets = [Budget(share) for share in plan.budgets]
    facts: dict[str, Any] = {}
    for spec in plan.learners:
        made = learn(
            model,
            illegal=illegal,
            innocent=innocent,
            learner={"name": spec.name, **spec.options},
            budget=budgets[0],
            budgets=budgets[1:],
            relearned=relearned,
            user=user_for(model),
            batch=8,
            seed=learning.seed,
            split_half=spec.name not in BASELINES,
            show_progress=False,
        )
        cuts = [(made.budget, made.names), *((one.budget, one.names) for one in made.further)]
        for budget, names in cuts:
            folder = mask_folder(out, learning, spec.name, budget.share)
            if folder.is_dir():
                continue
            mask = Mask.make(
                model,
                names,
                budget=budget,
                learned=made.facts,
                scores=made.scores,
                candidates=list(made.candidates.sizes),
            )
            mask.write(folder, card=False)
        facts[spec.name] = {
            "seconds": made.facts["seconds_learning"],
            "stability": made.facts["stability"],
            "own": made.facts["own"],
        }
    write_json(out / "masks" / learning.key / "learned.json", facts)
    return time.monotonic() - started


def learned(out: Path, learning: Learning) -> bool:
    """Whether `out` holds all masks of an arm and seed."""
    return (out / "masks" / learning.key / "learned.json").is_file()


def mask_folder(out: Path, learning: Learning, learner: str, share: float) -> Path:
    """Where a learner's mask of a share lies."""
    return out / "masks" / learning.key / f"{learner}-{100 * share:g}"


def open_base(plan: Plan, arm: Arm, seed: int, out: Path) -> Any:
    """What the arm guards: the plan's base, or what its method makes of it with this seed."""
    from oubliette.backends import open_model
    from oubliette.erase.run import erase
    from oubliette.workflows.compose import compose
    from oubliette.workflows.order import Order

    if arm.erase is None:
        return open_model(plan.base)
    folder = out / "models" / slug(arm.name, str(seed))
    if not folder.is_dir():
        model = open_model(plan.base)
        recipe = compose(model, Order(concept=arm.illegal, method=arm.erase, seed=seed, save="delta"))
        erase(model, recipe, show_progress=False).save(folder)
    return open_model(folder)


def painted(
    model: Any, name: str, seed: int, *, user: bool = False, avoid: tuple[str, ...] = ()
) -> SupervisedData:
    """Pictures of a concept of the world, as many as full fine-tuning's budget has; a user has their own."""
    from oubliette.attack.material import from_world

    count = int(budget_for(model, "full").pictures)
    concept = concept_of(model, name)
    where = seed + _USER_SEEDS if user else seed
    return from_world(
        concept, model.picture_side, count=count, seed=where, avoid=avoid, world=world_of(model)
    ).data(model)


def concept_of(model: Any, name: str) -> Concept:
    """A concept of the model's world by its name, with kind and anchor."""
    from oubliette.data.concepts import make_concepts

    return make_concepts(model, [name])[0]


def _relearned(
    plan: Plan, arm: Arm, learning: Learning, sides: Sequence[Sequence[SupervisedData]], out: Path
) -> Any:
    """A user without a mask, who trains on all of it: theta_ft, for every learner."""
    from oubliette.guard.learn.draws import Mixture
    from oubliette.train.tuning.tune import tune

    model = open_base(plan, arm, learning.seed, out)
    budget = budget_for(model, "full", {**plan.budget, "seed": learning.seed})
    tune(model, Mixture(sides), "full", budget, keep=True)
    return model
