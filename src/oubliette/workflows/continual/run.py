"""Running a stream of requests: one folder a stage, figures after each, to be taken up where it was cut
short.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from oubliette.core.errors import UserError
from oubliette.core.manifest import refuse_existing
from oubliette.core.run_folder import Unfinished, content_hash, is_main, note, recipe_identity
from oubliette.workflows.continual.requests import Stage, permuted, read_requests, settle
from oubliette.workflows.continual.result import StreamOutcome
from oubliette.workflows.continual.stages import Running, policy_of, take_back
from oubliette.workflows.order import Job, Order

__all__ = ["checkpoints_of", "dry_stream", "run_stream"]


#: Up to so many requests each is measured and kept where the user does not say; else as many in all.
_ALL, _SOME = 20, 5


def run_stream(
    requests: Path | str,
    shared: Order,
    job: Job,
    *,
    model: Any,
    permutation: int | None = None,
    checkpoints: Sequence[int] | None = None,
) -> StreamOutcome:
    """Erase the requests of a YAML or JSONL file one after another, each from the last result, as the policy
    of `shared` decides.

    `permutation` is the seed of another order than the file's. After each of the `checkpoints` (numbers of
    requests from 1, the last one always; by default every one of 20, else five), all the stream's concepts
    are drawn from the model and from the base it began with, with the same prompts, seeds and number of
    pictures. `out` then holds the last model as `oubliette erase` saves it, `stream.json` and `stream.md`
    with the figures, and a folder a checkpoint ("01-car") with its model as a delta against the base, in the
    precision it was held in: each opens without the others, bit for bit what the next began with. While it
    runs they lie in `OUT.unfinished`, from where `resume` goes on, inside a stage where that has a
    checkpoint. `shared` is what is ordered for all requests. Raises UserError for what cannot be run; all
    requests are looked at before the first.
    """
    from oubliette.backends import open_model
    from oubliette.workflows.check import fitted, judges_for

    mode, out = job.mode, job.out
    if out is None:
        raise UserError("no output folder was given; --out FOLDER")
    target = Path(out)
    refuse_existing(target)
    asked = permuted(read_requests(requests), permutation)
    numbers = checkpoints_of(len(asked), checkpoints)
    work = Unfinished(target, resume=job.resume)
    take_back(target, work.folder)
    opened = open_model(model)
    stages = settle(opened, asked, shared)
    concepts = [concept for stage in stages for concept in stage.concepts]
    opened_judges = judges_for(opened, job.judges, concepts, mode=mode, required=job.require_leakage)
    run = Running(opened, stages, work.folder, target, job.show_progress, numbers)
    with work:
        work.claim(_identity(opened, stages, permutation, numbers))
        plan = run.begin(
            lambda: fitted(
                opened,
                run.base,
                run.concepts,
                mode=mode if is_main() else "off",
                judges=opened_judges,
                seed=stages[0].recipe.seed,
            )
        )
        look = {"judges": opened_judges, "bounds": job.bounds, "plan": plan, "mode": mode}
        outcome = StreamOutcome(target, form=stages[-1].recipe.save.form, main=is_main())
        outcome.required = job.require_leakage if is_main() else None
        run.progress.resume(lambda number: (work.folder / stages[number - 1].name).is_dir())
        for stage in stages:
            if stage.number > run.progress.done:
                run.erase(stage)
            outcome.stages.append(run.measured(stage, look))
        run.finish(outcome, report=job.report, command=job.command)
    return outcome


def checkpoints_of(count: int, asked: Sequence[int] | None) -> list[int]:
    """The numbers of the requests after which a stream of `count` is measured and kept, upwards, the last one
    among them; UserError for one that is none of them.
    """
    if asked is None:
        if count <= _ALL:
            return list(range(1, count + 1))
        found = [count * part // _SOME for part in range(1, _SOME + 1)]
        note(f"{count} requests: measured and kept after {', '.join(map(str, found))} (--checkpoints)")
        return found
    wrong = next((number for number in asked if not 1 <= number <= count), None)
    if wrong is not None:
        raise UserError(
            f"--checkpoints: there is no request {wrong}; the stream has {count}, numbered from 1"
        )
    return sorted({*asked, count})


def _identity(
    model: Any, stages: Sequence[Stage], permutation: int | None, checkpoints: Sequence[int]
) -> dict[str, Any]:
    """What a run and the one that goes on with it share."""
    hashed = cache(content_hash)
    return {
        "order": permutation,
        "policy": stages[0].recipe.policy,
        "checkpoints": list(checkpoints),
        "stream": [{**recipe_identity(each.recipe, hashed), "records": each.digest()} for each in stages],
        "model": model.fingerprint(),
    }


def dry_stream(
    requests: Path | str,
    shared: Order,
    job: Job,
    *,
    model: Any,
    permutation: int | None = None,
    checkpoints: Sequence[int] | None = None,
) -> list[dict[str, Any]]:
    """What `run_stream` would do: each request's resolved recipe and an estimate of its cost; what a policy
    decides of it is not known before.

    Raises UserError for what `run_stream` would refuse.
    """
    from oubliette.backends import open_model
    from oubliette.recipe import dump
    from oubliette.workflows.check import judges_for
    from oubliette.workflows.estimate import estimate

    mode = job.mode
    opened = open_model(model)
    asked = permuted(read_requests(requests), permutation)
    checkpoints_of(len(asked), checkpoints)
    stages = settle(opened, asked, shared)
    policy_of(opened, stages)
    concepts = [concept for stage in stages for concept in stage.concepts]
    judges_for(opened, job.judges, concepts, mode=mode, required=job.require_leakage)
    return [
        {
            "stage": stage.name,
            "recipe": stage.recipe.model_dump(mode="json"),
            "recipe_yaml": dump(stage.recipe),
            "estimate": estimate(opened, stage.recipe, stage.given()),
        }
        for stage in stages
    ]
