"""A mask from names to a folder: open the model and both sides' data, learn, cut, write."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from oubliette.core.errors import UserError
from oubliette.core.manifest import atomic_folder, record, refuse_existing
from oubliette.core.run_folder import Unfinished
from oubliette.workflows.guard.sources import Opened, open_all
from oubliette.world.world import world_of

__all__ = ["Guarded", "cut_mask", "learn_mask", "user_for"]

_PICTURE = "where.png"
#: The simulated user of the embedded models: an update of 16 pictures at 1e-4 does there what hundreds of
#: single pictures at 1e-5 do to a large model.
_NANO_USER = {"steps": 64, "batch": 16, "accumulation": 1, "learning_rate": 1e-4, "clip": 1.0, "log_every": 8}


@dataclass(frozen=True)
class Guarded:
    """A mask that was written: the mask, its folder, and what an author should know."""

    mask: Any
    out: Path
    notes: list[str]


def learn_mask(
    model: Any,
    *,
    illegal: Sequence[str],
    innocent: Sequence[str],
    out: Path | str,
    learner: str = "saliency",
    options: Mapping[str, Any] | None = None,
    budget: float = 0.3,
    of: str = "parameters",
    relearned: Any = None,
    pictures: int = 200,
    user: Mapping[str, Any] | None = None,
    scope: str = "full",
    each: str = "weight",
    batch: int = 4,
    kind: str | None = None,
    seed: int = 0,
    split_half: bool = True,
    licence: str | None = None,
    resume: bool = False,
    show_progress: bool = True,
) -> Guarded:
    """Learn which tensors of `model` must not move and write the mask to the new folder `out`.

    `illegal` and `innocent` are sources as `oubliette.workflows.guard.sources` reads them, the first
    `pictures` of each. `relearned` is a model fine-tuned from this one on both (None: made on the spot by
    `user`, settings of `oubliette.train.config.TrainConfig` over those that fit the model). The other
    options are those of `oubliette.guard.learn`. While it runs, what is done lies in `OUT.unfinished`:
    checkpoints of the user, what they moved, and what each pass of the learner found; `resume` goes on from
    there. UserError for what cannot be; nothing is then written, and the model is as it was.
    """
    from oubliette.backends import open_model
    from oubliette.guard.learn.budget import Budget
    from oubliette.guard.learn.learn import learn
    from oubliette.guard.mask import Mask

    refuse_existing(out)
    work = Unfinished(Path(out), resume=resume)
    for side, given in (("illegal", illegal), ("innocent", innocent)):
        if not given:
            raise UserError(f"a mask needs data of both sides; name at least one source that is {side}")
    asked = Budget(budget, of)  # type: ignore[arg-type]
    opened = open_model(model)
    sides = [open_all(opened, texts, count=pictures, seed=seed, kind=kind) for texts in (illegal, innocent)]
    tuned = None if relearned is None else open_model(relearned)
    data = {
        side: [one.facts for one in given] for side, given in zip(("illegal", "innocent"), sides, strict=True)
    }
    settings: dict[str, Any] = {
        "learner": {"name": learner, **(options or {})},
        "budget": asked,
        "user": user_for(opened, user),
        "scope": scope,
        "each": each,
        "batch": batch,
        "seed": seed,
        "split_half": split_half,
    }
    with work:
        work.claim(
            {
                "guard": "learn",
                "model": opened.fingerprint(),
                "relearned": None if tuned is None else tuned.fingerprint(),
                **settings,
                "budget": asdict(asked),
                "user": settings["user"].model_dump(mode="json"),
                "data": data,
            }
        )
        found = learn(
            opened,
            illegal=[one.data for one in sides[0]],
            innocent=[one.data for one in sides[1]],
            relearned=tuned,
            keep=work.folder,
            show_progress=show_progress,
            **settings,
        )
        mask = Mask.make(
            opened,
            found.names,
            budget=asked,
            learned={**found.facts, "data": data, "record": record(seed=seed)},
            scores=found.scores,
            candidates=list(found.candidates.sizes),
        )
        write_mask(mask, Path(out), licence=licence)
    return Guarded(mask, Path(out), _skipped([*sides[0], *sides[1]]))


def cut_mask(
    mask: Path | str,
    model: Any,
    out: Path | str,
    *,
    budget: float,
    of: str = "parameters",
    licence: str | None = None,
) -> Guarded:
    """Another budget from a mask's saved scores, written to the new folder `out`.

    `model` is the mask's base. UserError for a mask without scores, another model, and a budget that nothing
    fits.
    """
    from oubliette.backends import open_model
    from oubliette.guard.learn.budget import Budget, cut
    from oubliette.guard.learn.candidates import Candidates
    from oubliette.guard.mask import Mask, read_mask

    refuse_existing(out)
    asked = Budget(budget, of)  # type: ignore[arg-type]
    before = read_mask(mask)
    if not before.scores:
        raise UserError(f"mask {mask}: keeps no scores, so no other budget can be cut from it")
    opened = open_model(model)
    before.bind(opened)
    learned = before.learned
    candidates = Candidates.of(opened, learned.get("scope", "full"), each=learned.get("each", "weight"))
    if set(candidates.names) != set(before.scores):
        raise UserError(f"mask {mask}: its scores are not those of the model's candidates; learn it anew")
    chosen = cut(before.scores, candidates, asked, order=learned.get("scores") == "order")
    made = Mask.make(
        opened,
        candidates.expand(chosen),
        budget=asked,
        learned={**learned, "cut_from": before.digest()},
        scores=before.scores,
        candidates=list(candidates.sizes),
        revision=before.base.revision,
    )
    write_mask(made, Path(out), licence=licence)
    return Guarded(made, Path(out), [])


def write_mask(mask: Any, out: Path, *, licence: str | None = None) -> None:
    """The mask's folder, with a picture of where it lies beside it; all of it or nothing."""
    from oubliette.guard.show import picture

    with atomic_folder(out) as folder:
        mask.write(folder, licence=licence)
        picture(mask, folder / _PICTURE)


def user_for(model: Any, changes: Mapping[str, Any] | None = None) -> Any:
    """The simulated user's training: FreezeAsGuard's, a short one for an embedded model; with `changes`."""
    from oubliette.core.validation import validated
    from oubliette.guard.learn.problem import RELEARNING
    from oubliette.train.config import TrainConfig

    small = {} if world_of(model).overlay is None else _NANO_USER
    return validated(TrainConfig, {**RELEARNING.model_dump(), **small, **(changes or {})}, "guard user")


def _skipped(opened: Sequence[Opened]) -> list[str]:
    return [f"{where} was skipped: {reason}" for one in opened for where, reason in one.skipped]
