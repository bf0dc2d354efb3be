"""A whole erasure, one straight line: load, erase, save, check, report."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from oubliette.core.errors import UserError
from oubliette.core.manifest import read_manifest, refuse_existing, write_manifest
from oubliette.core.run_folder import Unfinished, identity_of, is_main, with_checkpoints
from oubliette.recipe import Recipe
from oubliette.workflows.order import Job

if TYPE_CHECKING:
    from oubliette.backends.base import Backend
    from oubliette.erase.result import EraseResult
    from oubliette.eval.sample_store import SampleStore
    from oubliette.workflows.check import Check

__all__ = ["Outcome", "concepts_in", "dry", "run_job", "verdicts_of"]

REPORT = "report"


@dataclass
class Outcome:
    """What a job leaves: the result in memory, its folder, the check, and the page where there is one."""

    result: EraseResult
    out: Path
    check: Check
    page: Path | None = None
    required: float | None = None
    main: bool = True
    """Whether this is the process that saved and checked (of several, one does)."""
    lost: float = 0.0
    """The share of the update that rounding ate when it was saved; 1 where the result is the base."""

    @property
    def exit_code(self) -> int:
        """0; where a leakage was required, 1 if the verdict is negative and 3 if it cannot be told; 3 where
        rounding lost the whole update.
        """
        if self.lost == 1:
            return 3
        if self.required is None:
            return 0
        return 3 if self.check.evaluation is None else self.check.evaluation.exit_code

    def facts(self) -> dict[str, Any]:
        """The outcome as plain data, as `--json` prints it."""
        evaluation = self.check.evaluation
        return {
            "out": str(self.out),
            **{key: value for key, value in self.result.record().items() if key != "recipe"},
            "checked": self.check.made,
            "not_checked_because": self.check.reason or None,
            **({} if self.check.answers is None else self.check.answers.facts()),
            "verdicts": verdicts_of(evaluation) if evaluation is not None else [],
            "report": None if self.page is None else str(self.page),
            "lost_in_rounding": self.lost,
            "exit_code": self.exit_code,
        }


def run_job(recipe: Recipe | Callable[[Backend], Recipe], job: Job, *, model: Any = None) -> Outcome:
    """Run a recipe from the model's name to a saved folder with its verdict.

    `recipe` may be a function of the opened model. `model` and the job's `out` go before the recipe's own.
    Raises UserError for what cannot be run; nothing is then written.
    """
    from oubliette.backends.files.changes import lost_in, round_as_stored
    from oubliette.erase.run import erase
    from oubliette.workflows.check import check as look
    from oubliette.workflows.check import judges_for, sets_in

    mode = job.mode
    place = job.out or (None if callable(recipe) else recipe.save.path)
    if place is None:
        raise UserError("no output folder was given; --out FOLDER (or save.path in the recipe)")
    target = Path(place)
    work = Unfinished(target, resume=job.resume)
    saved = work.refuse_target()
    started = time.perf_counter()
    opened, settled = _open(recipe, model)
    sets = sets_in(settled)
    opened_judges = judges_for(
        opened, job.judges, concepts_in(settled), mode=mode, required=job.require_leakage, sets=sets
    )
    loaded = time.perf_counter() - started
    with work:
        work.claim(identity_of(settled, opened))
        result = erase(
            opened,
            with_checkpoints(settled),
            log=work.folder / "log.jsonl",
            cache=work.folder / "pictures",
            checkpoint=work.folder / "checkpoint",
            resume=job.resume,
            show_progress=job.show_progress,
        )
        result.seconds["load"] = loaded
        if not saved:
            work.saving()
            result.save(target)
        lost = lost_in(target)
        if lost:  # what is checked is what was saved
            round_as_stored(opened, result.changed, settled.save.torch_dtype())
        cache = _memory()
        found = look(
            opened,
            result.weights,
            concepts_in(settled),
            mode=mode if is_main() else "off",
            judges=opened_judges,
            bounds=job.bounds,
            seed=settled.seed,
            cache=cache,
            sets=sets,
            name=target.absolute().name,
        )
        result.seconds["evaluate"] = found.seconds
        required = job.require_leakage if is_main() else None
        outcome = Outcome(result, target, found, required=required, main=is_main())
        outcome.lost = lost
        if found.made:
            try:
                _note(outcome)
                if found.evaluation is not None and job.report:
                    outcome.page = _report(outcome, cache, opened.world, job.command)
            except UserError as error:  # a disk that took the model, and takes no more
                shutil.rmtree(target / REPORT, ignore_errors=True)
                raise UserError(f"{error}; the model itself is saved in {target}") from error
    return outcome


def dry(
    recipe: Recipe | Callable[[Backend], Recipe], job: Job | None = None, *, model: Any = None
) -> dict[str, Any]:
    """What `run_job` would do: the resolved recipe and an estimate of its cost; nothing is written.

    Raises UserError for what `run_job` would refuse, except that no `out` need be given.
    """
    from oubliette.erase.rehearse import rehearse
    from oubliette.recipe import dump
    from oubliette.workflows.check import judges_for, sets_in
    from oubliette.workflows.estimate import estimate

    job = job or Job()
    mode = job.mode
    if job.out is not None:
        refuse_existing(Path(job.out))
    opened, settled = _open(recipe, model)
    rehearse(opened, settled)
    judges_for(
        opened,
        job.judges,
        concepts_in(settled),
        mode=mode,
        required=job.require_leakage,
        sets=sets_in(settled),
    )
    return {
        "recipe": settled.model_dump(mode="json"),
        "recipe_yaml": dump(settled),
        "estimate": estimate(opened, settled),
    }


def concepts_in(recipe: Recipe) -> list[Any]:
    """The recipe's concepts as `Concept`s."""
    from oubliette.data.concept import Concept

    return [Concept(c.name, c.anchor, c.kind, tuple(c.synonyms)) for c in recipe.concepts]


def verdicts_of(evaluation: Any) -> list[dict[str, Any]]:
    """Each model's verdict on each concept, as plain data."""
    return [
        {
            "model": row.name,
            "concept": figures.name,
            "verdict": figures.verdict.word,
            "reasons": figures.verdict.reasons,
            "leakage": {
                split.split: None if split.leakage is None else round(split.leakage.value, 4)
                for split in figures.leakage
                if split.judge == figures.judge
            },
        }
        for row in evaluation.models
        for figures in row.concepts
    ]


def _open(recipe: Recipe | Callable[[Backend], Recipe], model: Any) -> tuple[Backend, Recipe]:
    from oubliette.backends import open_model

    if callable(recipe):
        opened = open_model(model)
        return opened, recipe(opened)
    if model is None and recipe.model is None:
        raise UserError("the recipe names no model; give one with --model, or model: in the recipe")
    return open_model(model if model is not None else recipe.model), recipe


def _memory() -> SampleStore:
    from oubliette.eval.sample_store import SampleStore

    return SampleStore()


def _note(outcome: Outcome) -> None:
    """Write the figures into the artefact's record, and the evaluation beside it."""
    evaluation, answers = outcome.check.evaluation, outcome.check.answers
    figures = {} if answers is None else answers.facts()
    if evaluation is not None:
        figures.update(verdicts=verdicts_of(evaluation), bounds=str(evaluation.bounds))
    record = {**read_manifest(outcome.out), "figures": figures}
    record["seconds"] = outcome.result.record()["seconds"]
    write_manifest(outcome.out, record)
    if evaluation is None:
        return
    folder = outcome.out / REPORT
    evaluation.write(folder / "evaluation.json")
    evaluation.write_samples(folder / "samples.jsonl")


def _report(outcome: Outcome, cache: SampleStore, world: str | None, command: str | None) -> Path:
    from oubliette.eval.grids import make_grids
    from oubliette.report.build import make_curves, make_run
    from oubliette.report.data import ReportData
    from oubliette.report.page import write_page
    from oubliette.workflows.modality import modality_of

    result, evaluation = outcome.result, outcome.check.evaluation
    assert evaluation is not None
    recipe = result.recipe
    row = evaluation.models[0].name
    names = ", ".join(figures.name for figures in evaluation.models[0].concepts)
    data = ReportData(
        title=f"{names} erased from {recipe.model or result.model.source}",
        evaluation=evaluation,
        grids=make_grids(evaluation, cache),
        curves=make_curves(result.log, row),
        runs=[
            make_run(
                row,
                recipe.method["name"],
                recipe.model_dump(mode="json"),
                outcome.out,
                summary=recipe.about,
                seconds=result.seconds,
                form=recipe.save.form,
                noun=modality_of(result.model).noun,
            )
        ],
        world=world,
        command=command,
    )
    return write_page(data, outcome.out / REPORT / "index.html")
