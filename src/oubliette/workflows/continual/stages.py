"""The stages of a stream under way: each erased from the last, saved, measured, and taken up again."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from oubliette.core.errors import UserError
from oubliette.core.manifest import read_manifest, read_object, write_json
from oubliette.core.run_folder import is_main, with_checkpoints
from oubliette.core.writing import writing
from oubliette.workflows.compose import compose
from oubliette.workflows.continual.carried import Carried, carrier_of
from oubliette.workflows.continual.progress import Progress
from oubliette.workflows.continual.requests import Stage, avoiding, check_carried
from oubliette.workflows.continual.result import StageResult, StreamOutcome

if TYPE_CHECKING:
    from oubliette.backends.base import Backend
    from oubliette.data.concept import Concept
    from oubliette.data.questions import QA
    from oubliette.erase.policy import Asked, Decision, Policy
    from oubliette.eval.result import Evaluation
    from oubliette.eval.sample_store import SampleStore
    from oubliette.recipe import Recipe
    from oubliette.workflows.check_size import Fitted

__all__ = ["Running", "policy_of", "take_back"]

_PLAN, _TABLE, _REPORT, _PROGRESS = "stream.json", "stream.md", "report", "progress"
_APART = 25  # updates between two checkpoints of a request, where not every request is kept


class Running:
    """One stream under way: the model in memory, its stages, and the folder they are kept in."""

    def __init__(
        self,
        model: Backend,
        stages: Sequence[Stage],
        folder: Path,
        target: Path,
        show_progress: bool,
        checkpoints: Sequence[int],
    ) -> None:
        from oubliette.train.processes import Processes

        self.model, self.stages, self.folder, self.target = model, stages, folder, target
        self.checkpoints = tuple(checkpoints)
        self.policy = policy_of(model, stages)
        self.base: Carried = carrier_of(stages[0])(model)
        self.progress = Progress(folder / _PROGRESS, self.base, self.policy)
        self.concepts: list[Concept] = [concept for stage in stages for concept in stage.concepts]
        self._show = show_progress and is_main()
        self._show_bars = show_progress
        self._processes = Processes(model.device)
        self._cache: SampleStore | None = None
        self._held = 0
        """How many requests the model in memory has behind it."""

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

    def erase(self, stage: Stage) -> None:
        """Let the policy decide about a request, run that, and note it; keep a delta at a checkpoint."""
        from oubliette.erase.run import erase
        from oubliette.train.checkpoint import has_checkpoint

        self._open(stage.number - 1)
        started = time.perf_counter()
        decision = self.policy.decide(self.model, self._asked(stage))
        seconds = {"decide": time.perf_counter() - started}
        self._say(stage, decision)
        result = None
        if decision.recipe is not None:
            work = self.folder / f"{stage.name}.work"
            chosen = replace(stage, recipe=decision.recipe)
            check_carried(self.model, chosen, self.stages[:1])
            result = erase(
                self.model,
                with_checkpoints(decision.recipe, 1 if self._every else _APART),
                log=work / "log.jsonl",
                cache=work / "pictures",
                checkpoint=work / "checkpoint",
                resume=has_checkpoint(work / "checkpoint"),
                show_progress=self._show_bars,
                rows={**stage.given(), **decision.rows},
                reference=self.base if decision.from_start else None,
            )
            self.base.keep(result)
            seconds |= result.seconds
            if self._processes.is_main:
                shutil.rmtree(work, ignore_errors=True)
        self.policy.done()
        self._held = stage.number
        record = {
            "method": None if decision.recipe is None else decision.recipe.method["name"],
            "seconds": {phase: round(value, 4) for phase, value in seconds.items()},
            **({"decision": dict(decision.facts)} if decision.facts else {}),
            **({} if result is None or result.scope is None else {"scope": result.scope}),
        }
        kept = stage.number in self.checkpoints
        if kept:
            self._save(stage, record if result is None else {**result.record(), **record})
        if self._processes.is_main:
            self.progress.add(record, saved=kept)
        else:
            self.progress.records.append(record)

    @property
    def _every(self) -> bool:
        return len(self.checkpoints) == len(self.stages)

    def _say(self, stage: Stage, decision: Decision) -> None:
        if not self._show:
            return
        names = ", ".join(concept.name for concept in stage.concepts) or stage.name
        what = "skipped" if decision.recipe is None else decision.recipe.method["name"]
        print(f"request {stage.number} of {len(self.stages)}: {names} ({what})", file=sys.stderr)

    def _asked(self, stage: Stage) -> Asked:
        """The request as the policy sees it."""
        from oubliette.erase.policy import Asked

        gone = stage.recipe.data.avoid

        def made(**changes: Any) -> Recipe:
            more = changes.pop("set", ())
            order = replace(stage.order, **changes, overrides=[*stage.order.overrides, *more])
            return undecided(avoiding(compose(self.model, order), gone))

        return Asked(
            number=stage.number,
            recipe=undecided(stage.recipe),
            forget=stage.forget(),
            retain=stage.retain(),
            to_come=lambda: [row for each in self.stages[stage.number :] for row in each.forget()],
            before=self.base.originals,
            compose=made,
        )

    def measured(self, stage: Stage, look: Mapping[str, Any]) -> StageResult:
        """The figures after a request that is done, at a checkpoint: those beside it, or taken now, with the
        model as it was then.
        """
        from oubliette.eval.pictures.sampling import Sampling
        from oubliette.eval.result import Evaluation
        from oubliette.workflows.check import check

        record = self.progress.records[stage.number - 1]
        found = StageResult(stage, record, None, checkpoint=stage.number in self.checkpoints)
        if not found.checkpoint or not is_main():
            return found
        plan, path = look["plan"], self.folder / stage.name / _REPORT / "evaluation.json"
        if path.is_file():
            return replace(found, evaluation=Evaluation.from_json(path.read_text(encoding="utf-8")))
        sets = self._sets(stage)
        if plan["size"] is None and not sets:
            return replace(found, reason=plan["reason"] or "")
        self._open(stage.number)
        made = check(
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
        if made.evaluation is not None:
            made.evaluation.write_samples(path.with_name("samples.jsonl"))
            made.evaluation.write(path)
        spent = {**record, "seconds": {**record["seconds"], "evaluate": made.seconds}}
        return StageResult(stage, spent, made.evaluation, made.reason, made.answers)

    def _sets(self, stage: Stage) -> dict[str, Sequence[QA]]:
        """What a language model is asked after a request: what it was to forget since the last checkpoint and
        before that, what it is to keep, and what is still to come.
        """
        last = max((number for number in self.checkpoints if number < stage.number), default=0)
        parts = {
            "forget": self.stages[last : stage.number],
            "earlier": self.stages[:last],
            "to come": self.stages[stage.number :],
        }
        found = {name: [row for each in part for row in each.questions()] for name, part in parts.items()}
        sets: dict[str, Sequence[QA]] = {**found, "retain": stage.retain()}
        return {name: rows for name, rows in sets.items() if rows}

    def finish(self, outcome: StreamOutcome, *, report: bool, command: str | None) -> None:
        """Put the last model, the stages and the figures where they belong, all at once."""
        final, last = _final(self.target), self.stages[-1]
        self._open(last.number)
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
        for number in self.checkpoints:
            name = self.stages[number - 1].name
            os.replace(self.folder / name, final / name)
        if self.target.is_dir():
            self.target.rmdir()  # an empty folder is as good as none
        os.replace(final, self.target)

    def _save(self, stage: Stage, record: dict[str, Any]) -> None:
        folder = self.folder / stage.name
        # One that is there is what a run wrote that was killed before it could note it.
        if self._processes.is_main and not folder.exists():
            record = {**record, "stream": {"stage": stage.number, "of": len(self.stages)}}
            self.base.save(folder, record)
        self._processes.wait()

    def _open(self, number: int) -> None:
        """Make the model in memory what it was after so many requests, all of which are done."""
        if self._held == number:
            return
        folder = self.folder / self.stages[number - 1].name
        if folder.is_dir():
            self.base.open(folder)
            if read_manifest(folder).get("fingerprint") != self.model.fingerprint():
                raise UserError(
                    f"{folder}: its weights do not match the hash in its record: the file was damaged; "
                    "remove it, and --resume erases that request again"
                )
        else:
            self.progress.open()
        self._held = number

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


def policy_of(model: Backend, stages: Sequence[Stage]) -> Policy:
    """The policy of a stream, begun; UserError where two requests have different ones, or it does not fit."""
    first = stages[0].recipe.policy
    for stage in stages:
        if stage.recipe.policy != first:
            raise UserError(
                f"request {stage.number}: policy {stage.recipe.policy}, and request 1 has {first}: one "
                "decides for the whole stream; give it with --policy"
            )
    policy = stages[0].recipe.make_policy()
    policy.begin(model, undecided(stages[0].recipe))
    return policy


def undecided(recipe: Recipe) -> Recipe:
    """The recipe alone, as a policy is given it."""
    return recipe.model_copy(update={"policy": None})


def _final(target: Path) -> Path:
    return target.with_name(f".{target.name}.final")


def take_back(target: Path, folder: Path) -> None:
    """Undo a finish that was itself cut short: the stages that had been moved go back."""
    final = _final(target)
    if not final.is_dir() or not is_main():
        return
    for stage in final.glob("[0-9]*-*"):
        if folder.is_dir() and not (folder / stage.name).exists():
            os.replace(stage, folder / stage.name)
    shutil.rmtree(final)
