"""What a stream of requests leaves: the leakage of every concept after every request, and what was kept."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from oubliette.core.numbers import number, percent
from oubliette.eval.plan import SPLITS

if TYPE_CHECKING:
    from oubliette.eval.result import ConceptFigures, Evaluation
    from oubliette.eval.text.likelihood import Answered
    from oubliette.workflows.continual.requests import Stage

__all__ = ["StageResult", "StreamOutcome"]

_NONE = "-"


@dataclass(frozen=True)
class StageResult:
    """One stage: its request, what is on `record` of it (the method that was run, None where it was skipped,
    its seconds, and what the policy says), and the figures of all the stream's concepts after it.

    `evaluation` is None where nothing was measured, for `reason`, or where the answers to the request's own
    questions were (`answers`).
    """

    stage: Stage
    record: Mapping[str, Any]
    evaluation: Evaluation | None
    reason: str = ""
    answers: Answered | None = None
    checkpoint: bool = True
    """Whether its model is kept, and was to be measured."""

    @property
    def seconds(self) -> dict[str, float]:
        """The time of each phase."""
        return dict(self.record["seconds"])

    @property
    def method(self) -> str:
        """What was run for it."""
        return self.record["method"] or "skipped"

    def figures(self, name: str) -> ConceptFigures | None:
        """A concept's figures after this stage."""
        if self.evaluation is None:
            return None
        return next((found for found in self.evaluation.models[0].concepts if found.name == name), None)

    def leakage(self, name: str, split: str) -> float | None:
        """How much of a concept shows after this stage; None where it was not measured."""
        figures = self.figures(name)
        found = None if figures is None else figures.leakage_of(split)
        return None if found is None or found.leakage is None else found.leakage.value

    def kept(self) -> tuple[float, float] | None:
        """The share of pictures of everything else that still show it, and the base's share.

        IRA and CRA of the concept erased last, taken together; what is drawn is the same after every stage.
        """
        concepts = self.stage.concepts
        figures = self.figures(concepts[-1].name) if concepts else None
        parts = (
            [] if figures is None or figures.utility is None else [figures.utility.ira, figures.utility.cra]
        )
        rates = [(part.rate, part.base) for part in parts if part is not None]
        if not rates:
            return None
        now = sum(rate.hits for rate, _ in rates) / sum(rate.n for rate, _ in rates)
        before = sum(base.hits for _, base in rates) / sum(base.n for _, base in rates)
        return now, before


@dataclass
class StreamOutcome:
    """The stages in order, the folder of the last model, and the bound that was required, if one was."""

    out: Path
    stages: list[StageResult] = field(default_factory=list)
    form: str = "full"
    page: Path | None = None
    required: float | None = None
    main: bool = True
    """Whether this is the process that saved and measured (of several, one does)."""
    lost: float = 0.0
    """The share of the last model's update that rounding ate when it was saved."""

    @property
    def exit_code(self) -> int:
        """0; where a leakage was required, 1 if any concept's verdict at the end is negative, 3 if untold; 3
        where rounding lost all that was to be saved.
        """
        if self.lost == 1:
            return 3
        if self.required is None:
            return 0
        last = self.stages[-1].evaluation
        return 3 if last is None else last.exit_code

    def came_back(self, index: int) -> tuple[str, str, float] | None:
        """Of the concepts erased before stage `index`: whose leakage rose most since its own stage (or the
        first checkpoint from there on), on which split, and by how much; None where no two figures can be
        compared.
        """
        now = self.stages[index]
        measured = [each for each in self.stages[:index] if each.evaluation is not None]
        rises = []
        for since in measured if now.evaluation is not None else ():
            first = max(
                (each.stage.number for each in measured if each.stage.number < since.stage.number), default=0
            )
            own = self.stages[first : since.stage.number]
            for concept in (concept for each in own for concept in each.stage.concepts):
                for split in SPLITS:
                    then, after = since.leakage(concept.name, split), now.leakage(concept.name, split)
                    if then is not None and after is not None:
                        rises.append((after - then, concept.name, split))
        if not rises:
            return None
        rise, name, split = max(rises)
        return name, split, rise

    def table(self) -> str:
        """Markdown: a row after each checkpoint, a column a concept ("in-set / withheld" leakage).

        What is not erased yet stands in brackets. "came back" is the greatest rise of an earlier concept's
        leakage since its own request, in points. Where nothing was measured there are only the seconds, which
        are those since the row above, as the methods are.
        """
        looked = any(each.evaluation is not None for each in self.stages)
        names = [concept.name for each in self.stages for concept in each.stage.concepts if looked]
        figures = [*names, "kept", "came back"] if looked else []
        rows = [["after request", "method", *figures, "seconds"]]
        done: set[str] = set()
        since: list[StageResult] = []
        for index, each in enumerate(self.stages):
            done |= {concept.name for concept in each.stage.concepts}
            since.append(each)
            if not each.checkpoint:
                continue
            run = Counter(one.method for one in since)
            named = [name if len(since) == 1 else f"{name} {count}" for name, count in run.items()]
            cells = [each.stage.name, ", ".join(named)]
            cells += [self._cell(each, name, name in done) for name in names]
            kept, back = each.kept(), self.came_back(index)
            if looked:
                cells.append(_NONE if kept is None else f"{percent(kept[0])} of {percent(kept[1])}")
                cells.append(_NONE if back is None else f"{back[0]} {number(back[2], '+.0f')}")
            cells.append(f"{sum(sum(one.seconds.values()) for one in since):.0f}")
            rows.append(cells)
            since = []
        rows.insert(1, ["---"] * len(rows[0]))
        lines = ["| " + " | ".join(row) + " |" for row in rows]
        for each in self.stages:
            if each.answers is not None:
                lines += [each.stage.name, *(f"  {line}" for line in each.answers.lines())]
        reasons = list(dict.fromkeys(each.reason for each in self.stages if each.reason))
        return "\n".join(lines + [f"not checked: {reason}" for reason in reasons])

    def facts(self) -> dict[str, Any]:
        """The same as plain data, as `stream.json` and `--json` have it."""
        return {
            "out": str(self.out),
            "form": self.form,
            "stages": [self._facts(index) for index in range(len(self.stages))],
            "report": None if self.page is None else str(self.page),
            "exit_code": self.exit_code,
        }

    def _facts(self, index: int) -> dict[str, Any]:
        each = self.stages[index]
        found = {
            "name": each.stage.name,
            "concepts": [concept.name for concept in each.stage.concepts],
            "method": each.record["method"],
            **{key: each.record[key] for key in ("decision", "scope") if key in each.record},
            "seed": each.stage.recipe.seed,
            "seconds": each.seconds,
            "checkpoint": each.checkpoint,
        }
        if not each.checkpoint:  # what all requests share would be written as often as there are some
            return found
        back, kept = self.came_back(index), each.kept()
        names = [concept.name for stage in self.stages for concept in stage.stage.concepts]
        return {
            **found,
            "earlier": [concept.name for concept in each.stage.earlier],
            "checked": each.evaluation is not None or each.answers is not None,
            "not_checked_because": each.reason or None,
            **({} if each.answers is None else each.answers.facts()),
            "leakage": {name: {split: each.leakage(name, split) for split in SPLITS} for name in names},
            "verdicts": {
                name: figures.verdict.word for name in names if (figures := each.figures(name)) is not None
            },
            "kept": None if kept is None else {"share": kept[0], "base": kept[1]},
            "came_back": None if back is None else {"concept": back[0], "split": back[1], "rise": back[2]},
        }

    @staticmethod
    def _cell(each: StageResult, name: str, erased: bool) -> str:
        found = [each.leakage(name, split) for split in SPLITS]
        if all(value is None for value in found):
            return _NONE
        cell = " / ".join(_NONE if value is None else percent(value) for value in found)
        return cell if erased else f"({cell})"
