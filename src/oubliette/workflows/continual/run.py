"""Running a stream of requests: one folder a stage, figures after each, to be taken up where it was cut
short.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from oubliette.core.errors import UserError
from oubliette.core.manifest import refuse_existing
from oubliette.core.run_folder import Unfinished, identity_of, is_main
from oubliette.workflows.continual.requests import read_requests, settle
from oubliette.workflows.continual.result import StreamOutcome
from oubliette.workflows.continual.stages import Running, take_back
from oubliette.workflows.order import Job, Order

__all__ = ["dry_stream", "run_stream"]


def run_stream(
    requests: Path | str,
    shared: Order,
    job: Job,
    *,
    model: Any,
) -> StreamOutcome:
    """Erase the requests of a YAML file one after another, each from the last result.

    After each, all the stream's concepts are drawn from the model and from the base it began with, with the
    same prompts, seeds and number of pictures. `out` then holds the last model as `oubliette erase` saves it,
    `stream.json` and `stream.md` with the figures, and a folder a stage ("01-car") with its model as a delta
    against the base, in the precision it was held in: each opens without the others, bit for bit what the
    next began with. While it runs they lie in `OUT.unfinished`, from where `resume` goes on, inside a stage
    where that has a checkpoint. `shared` is what is ordered for all requests. Raises UserError for what
    cannot be run; all requests are looked at before the first.
    """
    from oubliette.backends import open_model
    from oubliette.workflows.check import fitted, judges_for

    mode, out = job.mode, job.out
    if out is None:
        raise UserError("no output folder was given; --out FOLDER")
    target = Path(out)
    refuse_existing(target)
    asked = read_requests(requests)
    work = Unfinished(target, resume=job.resume)
    take_back(target, work.folder)
    opened = open_model(model)
    stages = settle(opened, asked, shared)
    concepts = [concept for stage in stages for concept in stage.concepts]
    opened_judges = judges_for(opened, job.judges, concepts, mode=mode, required=job.require_leakage)
    run = Running(opened, stages, work.folder, target, job.show_progress)
    with work:
        work.claim({"stream": [identity_of(stage.recipe, opened) for stage in stages]})
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
        for stage in stages:
            seconds = run.seconds_of(stage)
            if seconds is None:
                seconds = run.erase(stage)
            outcome.stages.append(run.measured(stage, seconds, look))
        run.finish(outcome, report=job.report, command=job.command)
    return outcome


def dry_stream(
    requests: Path | str,
    shared: Order,
    job: Job,
    *,
    model: Any,
) -> list[dict[str, Any]]:
    """What `run_stream` would do: each request's resolved recipe and an estimate of its cost.

    Raises UserError for what `run_stream` would refuse.
    """
    from oubliette.backends import open_model
    from oubliette.recipe import dump
    from oubliette.workflows.check import judges_for
    from oubliette.workflows.estimate import estimate

    mode = job.mode
    opened = open_model(model)
    stages = settle(opened, read_requests(requests), shared)
    concepts = [concept for stage in stages for concept in stage.concepts]
    judges_for(opened, job.judges, concepts, mode=mode, required=job.require_leakage)
    return [
        {
            "stage": stage.name,
            "recipe": stage.recipe.model_dump(mode="json"),
            "recipe_yaml": dump(stage.recipe),
            "estimate": estimate(opened, stage.recipe),
        }
        for stage in stages
    ]
