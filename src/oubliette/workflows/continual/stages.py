"""The stages of a stream under way: each erased from the last, saved, measured, and taken up again."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from oubliette.core.errors import UserError
from oubliette.core.manifest import read_manifest, read_object, write_json
from oubliette.core.run_folder import is_main, with_checkpoints
from oubliette.core.writing import writing
from oubliette.workflows.continual.carried import Carried, carrier_of
from oubliette.workflows.continual.requests import Stage
from oubliette.workflows.continual.result import StageResult, StreamOutcome

if TYPE_CHECKING:
    from oubliette.backends.base import Backend
    from oubliette.data.concept import Concept
    from oubliette.erase.result import EraseResult
    from oubliette.eval.result import Evaluation
    from oubliette.eval.sample_store import SampleStore
    from oubliette.workflows.check_size import Fitted

__all__ = ["Running", "take_back"]

_PLAN, _TABLE, _REPORT = "stream.json", "stream.md", "report"


class Running:
    """One stream under way: the model in memory, its stages, and the folder they are kept in."""

    def __init__(
        self, model: Backend, stages: Sequence[Stage], folder: Path, target: Path, show_progress: bool
    ) -> None:
        from oubliette.train.processes import Processes

        self.model, self.stages, self.folder, self.target = model, stages, folder, target
        self.base: Carried = carrier_of(stages[0])(model)
        self.concepts: list[Concept] = [concept for stage in stages for concept in stage.concepts]
        self._show = show_progress and is_main()
        self._progress = show_progress
        self._processes = Processes(model.device)
        self._cache: SampleStore | None = None
        self._held: Stage | None = None
        """The stage that the model in memory is of."""

    def begin(self, fit: Callable[[], Fitted]) -> dict[str, Any]:
        """The stream's plan: what it began with, or now begins with."""
        recipes = [stage.recipe.model_dump(mode="json") for stage in self.stages]
        path = self.folder / _PLAN
        if path.is_file():
            return read_object(path)
        found = fit()
        plan = {
            "fingerprint": self.model.fingerprint(),
            "recipes": recipes,
            "size": found.size,
            "reason": found.reason,
            "steps": getattr(found.how, "steps", None),
        }
        if self._processes.is_main:
            write_json(path, plan)
        self._processes.wait()
        return plan

    def seconds_of(self, stage: Stage) -> dict[str, float] | None:
        """The seconds of a stage that is done, by phase; None for one that is not."""
        folder = self.folder / stage.name
        return dict(read_manifest(folder).get("seconds", {})) if folder.is_dir() else None

    def erase(self, stage: Stage) -> dict[str, float]:
        """Run one stage and save it; its seconds by phase."""
        from oubliette.erase.run import erase
        from oubliette.train.checkpoint import has_checkpoint

        work = self.folder / f"{stage.name}.work"
        if stage.number > 1:
            self._open(self.stages[stage.number - 2])
        if self._show:
            names = ", ".join(concept.name for concept in stage.concepts) or stage.name
            said = f"request {stage.number} of {len(self.stages)}: {names} ({stage.recipe.method['name']})"
            print(said, file=sys.stderr)
        result = erase(
            self.model,
            with_checkpoints(stage.recipe),
            log=work / "log.jsonl",
            cache=work / "pictures",
            checkpoint=work / "checkpoint",
            resume=has_checkpoint(work / "checkpoint"),
            show_progress=self._progress,
        )
        self.base.keep(result)
        self._save(stage, result)
        self._held = stage
        return result.seconds

    def measured(self, stage: Stage, seconds: dict[str, float], look: Mapping[str, Any]) -> StageResult:
        """The stage's figures: those beside it, or taken now, while the model is that stage's."""
        from oubliette.eval.pictures.sampling import Sampling
        from oubliette.eval.result import Evaluation
        from oubliette.workflows.check import check, sets_in

        plan, path = look["plan"], self.folder / stage.name / _REPORT / "evaluation.json"
        if path.is_file():
            return StageResult(stage, seconds, Evaluation.from_json(path.read_text(encoding="utf-8")))
        if not is_main():
            return StageResult(stage, seconds, None)
        sets = sets_in(stage.recipe)
        if plan["size"] is None and not sets:
            return StageResult(stage, seconds, None, plan["reason"] or "")
        self._open(stage)
        found = check(
            self.model,
            self.base,
            self.concepts,
            mode=look["mode"] if sets else "on",
            judges=look["judges"],
            bounds=look["bounds"],
            seed=self.stages[0].recipe.seed,
            cache=self._pictures(),
            size=plan["size"],
            sampling=Sampling(steps=plan["steps"]) if plan.get("steps") else None,
            sets=sets,
            name=self.target.absolute().name,
            verdict=not sets,  # each request has rows of its own, which the others' tables do not show
        )
        if found.evaluation is not None:
            found.evaluation.write_samples(path.with_name("samples.jsonl"))
            found.evaluation.write(path)
        spent = {**seconds, "evaluate": found.seconds}
        return StageResult(stage, spent, found.evaluation, found.reason, found.answers)

    def finish(self, outcome: StreamOutcome, *, report: bool, command: str | None) -> None:
        """Put the last model, the stages and the figures where they belong, all at once."""
        final, last = _final(self.target), self.stages[-1]
        self._open(last)
        if self._processes.is_main:
            with writing(self.target), self._undone():
                self._put(final, last, outcome, report=report, command=command)
        self._processes.wait()

    @contextmanager
    def _undone(self) -> Iterator[None]:
        """Take a finish that fails back at once: nothing half-written is left beside the output."""
        try:
            yield
        except BaseException:
            take_back(self.target, self.folder)
            raise

    def _put(
        self, final: Path, last: Stage, outcome: StreamOutcome, *, report: bool, command: str | None
    ) -> None:
        """What `finish` writes, in the process that writes."""
        from oubliette.backends.files.changes import lost_in

        asked = last.recipe.save
        self.model.save(
            final,
            form=asked.form,
            dtype=asked.torch_dtype(),
            rank=asked.rank,
            energy=asked.energy,
            record=self._record(outcome),
        )
        outcome.lost = lost_in(final)
        evaluation = outcome.stages[-1].evaluation
        if evaluation is not None:
            outcome.page = self._report(final, evaluation, report, command)
        write_json(final / _PLAN, outcome.facts())
        (final / _TABLE).write_text(outcome.table() + "\n", encoding="utf-8")
        for stage in self.stages:
            os.replace(self.folder / stage.name, final / stage.name)
        if self.target.is_dir():
            self.target.rmdir()  # an empty folder is as good as none
        os.replace(final, self.target)

    def _save(self, stage: Stage, result: EraseResult) -> None:
        if self._processes.is_main:
            record = {**result.record(), "stream": {"stage": stage.number, "of": len(self.stages)}}
            self.base.save(self.folder / stage.name, record)
            shutil.rmtree(self.folder / f"{stage.name}.work", ignore_errors=True)
        self._processes.wait()

    def _open(self, stage: Stage) -> None:
        """Make the model in memory that of a stage that is done."""
        if self._held is stage:
            return
        self.base.open(self.folder / stage.name)
        if read_manifest(self.folder / stage.name).get("fingerprint") != self.model.fingerprint():
            raise UserError(
                f"{self.folder / stage.name}: its weights do not match the hash in its record: the file was "
                "damaged; remove it, and --resume erases that request again"
            )
        self._held = stage

    def _record(self, outcome: StreamOutcome) -> dict[str, Any]:
        specs = [spec.model_dump(mode="json") for stage in self.stages for spec in stage.recipe.concepts]
        seconds: dict[str, float] = {}
        for each in outcome.stages:
            for phase, value in each.seconds.items():
                seconds[phase] = round(seconds.get(phase, 0.0) + value, 3)
        return {
            "method": "stream",
            "concepts": [spec["name"] for spec in specs],
            "anchors": [spec["anchor"] for spec in specs],
            "seed": self.stages[0].recipe.seed,
            "recipe": {"concepts": specs},
            "stream": [stage.recipe.model_dump(mode="json") for stage in self.stages],
            "seconds": seconds,
        }

    def _report(self, final: Path, evaluation: Evaluation, page: bool, command: str | None) -> Path | None:
        from oubliette.eval.grids import make_grids
        from oubliette.report.data import ReportData
        from oubliette.report.page import write_page

        evaluation.write(final / _REPORT / "evaluation.json")
        evaluation.write_samples(final / _REPORT / "samples.jsonl")
        if not page:
            return None
        names = ", ".join(concept.name for concept in self.concepts)
        data = ReportData(
            title=f"{names} erased one after another from {self.model.source}",
            evaluation=evaluation,
            grids=make_grids(evaluation, self._pictures()),
            world=self.model.world,
            command=command,
        )
        write_page(data, final / _REPORT / "index.html")
        return self.target / _REPORT / "index.html"

    def _pictures(self) -> SampleStore:
        from oubliette.eval.sample_store import SampleStore

        self._cache = self._cache or SampleStore(self.folder / "pictures")
        return self._cache


def _final(target: Path) -> Path:
    return target.with_name(f".{target.name}.final")


def take_back(target: Path, folder: Path) -> None:
    """Undo a finish that was itself cut short: the stages that had been moved go back."""
    final = _final(target)
    if not final.is_dir() or not is_main():
        return
    for stage in final.glob("[0-9][0-9]-*"):
        if folder.is_dir() and not (folder / stage.name).exists():
            os.replace(stage, folder / stage.name)
    shutil.rmtree(final)
