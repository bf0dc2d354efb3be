"""Measuring models that answer: a forget set's questions, what must be kept, a judge of answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from oubliette.backends.prompting import Prompting
from oubliette.core.errors import UserError
from oubliette.data.concept import Concept
from oubliette.eval.judge import Judge
from oubliette.eval.meter import Meter, Reader
from oubliette.eval.metric import open_metric
from oubliette.eval.pictures.fidelity import Extractor
from oubliette.eval.plan import Plan
from oubliette.eval.text.answer_judge import AnswerJudge
from oubliette.eval.text.answer_plan import AnswerSets, answer_plan
from oubliette.eval.text.decoding import Decoding
from oubliette.eval.text.metrics.fluency import Fluency
from oubliette.eval.text.metrics.row_metric import SHOTS
from oubliette.eval.text.subject import Subject, chosen_rows

__all__ = ["AnswerEvaluator"]

#: An answer may be so much longer, in tokens, than the longest right one; and no longer than this.
_ROOM, _LONGEST = 8, 64


class AnswerEvaluator:
    """An `oubliette.eval.evaluator.Evaluator` for models that answer.

    `base` counts the tokens of the right answers, which bounds what a model may say. `judges` take the place
    of `AnswerJudge`; `metrics` are further ones by name (`oubliette.eval.metric.METRICS`). All models are
    asked as `prompting` says.
    """

    noun = "answers"
    extractor: Extractor | None = None

    def __init__(
        self,
        base: Any,
        sets: AnswerSets,
        *,
        judges: Sequence[Judge] | None = None,
        decoding: Decoding | None = None,
        metrics: Sequence[str] = (),
        prompting: Prompting | None = None,
    ) -> None:
        self.base, self.sets = base, sets
        self.metrics = [open_metric(spec) for spec in dict.fromkeys(metrics)]
        whole, expected = answer_plan(sets)
        self.judges: list[Judge] = list(judges) if judges else [AnswerJudge(expected)]
        self.sampling = decoding or Decoding(
            _tokens_of(base, [*sets.forget, *sets.retain, *sets.other]), prompting=prompting
        )
        self._whole = whole

    @property
    def concepts(self) -> list[Concept]:
        """The forget set alone."""
        return [self.sets.concept]

    @property
    def words(self) -> list[str]:
        """None: a filter of words has nothing to drop from a question."""
        return []

    def about(self, concepts: Sequence[Concept]) -> AnswerEvaluator:
        """UserError: a model is asked about the rows of its sets alone."""
        raise UserError(
            f"{', '.join(concept.name for concept in concepts)}: a model that answers is asked about the "
            "rows it was to forget; other concepts have none"
        )

    def plan(self, *, n: int, each: int | None = None, near_n: int | None = None, seed: int = 0) -> Plan:
        """`n` questions of the forget set in each wording, `each` (by default `n`) of the sets to keep."""
        return answer_plan(self.sets, n=n, each=n if each is None else each, seed=seed)[0]

    def meter(self, *, n: int, seed: int = 0, gold: bool = False) -> tuple[Reader | None, list[str]]:
        """The metrics, on `n` rows a set, and fluency for the verdict."""
        every = {"forget": self.sets.forget, "retain": self.sets.retain, "other": self.sets.other}
        rows = {
            name: list(some) if name == SHOTS else chosen_rows(some, n, seed)
            for name, some in {**every, **self.sets.more}.items()
            if some
        }
        remarked = []
        for metric in self.metrics:
            remarked += metric.check(rows)
            if metric.needs_gold and not gold:
                raise UserError(
                    f"metric '{metric.name}': is held against a model that never knew the rows; give one "
                    "(--control gold=MODEL)"
                )
        return Meter(self.metrics, lambda sampler: Subject(sampler, rows), Fluency()), remarked

    def settings(self) -> dict[str, Any]:
        """Greedy decoding: no steps, no guidance; how questions are put where that is not usual."""
        put = None if self.sampling.prompting is None else self.sampling.prompting.facts() or None
        usual = {"steps": 0, "guidance": 0.0, "sampler": "greedy", "prompts_csv": None}
        return {**usual, "prompting": put}


def _tokens_of(base: Any, rows: Sequence[Any]) -> int:
    """How many tokens an answer may have."""
    longest = max(int(base.encode([row]).counts()[0]) for row in rows if not row.plain)
    return min(_LONGEST, longest + _ROOM)
