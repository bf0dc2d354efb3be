"""Models that answer (`oubliette.workflows.modality.Modality`): rows are asked, and answers compared."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from oubliette.core.errors import UserError
from oubliette.core.manifest import read_manifest
from oubliette.core.validation import validated
from oubliette.data.hub_rows import named_on_hub
from oubliette.data.text import check_text
from oubliette.workflows.user_data import Lesson, Opened, Source, Teaching
from oubliette.world.world import world_of

if TYPE_CHECKING:
    from oubliette.audit.suite import Suite
    from oubliette.backends.prompting import Prompting
    from oubliette.data.concept import Concept
    from oubliette.data.questions import QA
    from oubliette.eval.evaluator import Evaluator
    from oubliette.eval.judge import Judge
    from oubliette.eval.sample_store import How
    from oubliette.workflows.request import Request

__all__ = ["Answers"]

#: Rows a set and wording of a check, the most that fits being taken: whole forget sets of the usual sizes.
_SIZES = (400, 200, 96, 64, 48, 32, 24)
#: Answers whose time tells that of one.
_TIMED = 8


class Answers:
    """Models that answer."""

    noun = "answers"
    capability: tuple[str, ...] = ("respond", "encode")
    suite = "answers"
    attack = "R1"
    method = "npo"
    holding = "is said in {share} of {n} answers to rows that were not shown"

    def retain(self, raw: dict[str, Any], retain: Path | str | Sequence[str]) -> None:
        """A JSONL file of rows."""
        if not isinstance(retain, str | Path):
            raise UserError(
                "what a language model is to retain must be a JSONL file of questions and answers"
            )
        raw["retain"] = str(retain)

    def evaluator(self, asked: Request, opened: Any, before: Any, how: How | None) -> Evaluator:
        """A judge of answers on the rows named, or those of the record."""
        from oubliette.backends.prompting import asked_as
        from oubliette.eval.text.answer_plan import AnswerSets
        from oubliette.eval.text.evaluator import AnswerEvaluator

        for name in ("concept", "anchor", "kind", "prompts_csv", "novel"):
            if getattr(asked, name) is not None:
                raise UserError(
                    f"{opened.source}: is a model that answers; what it was to forget are rows (--forget), "
                    f"not a {name.replace('_', ' ')}"
                )
        if asked.judges:
            raise UserError(
                f"{opened.source}: is a model that answers, and judges that are named look at pictures; "
                "leave --judge out"
            )
        if isinstance(before.kind, str) and not all(hasattr(before, name) for name in self.capability):
            raise UserError(f"{before.source}: does not answer, and {opened.source} does; name its base")
        forget = _path_of(asked, opened, "forget")
        rows = {name: _rows(_path_of(asked, opened, name)) for name in ("forget", "retain", "other")}
        if forget is None:
            raise UserError(
                f"{opened.source}: has no record of what was to be forgotten; name the rows (--forget)"
            )
        taken = sorted(set(asked.rows) & set(rows))
        if taken:
            raise UserError(f"--rows {taken[0]}: is given by --{taken[0]}")
        more = {name: _rows(path) for name, path in asked.rows.items()}
        prompting = asked.prompting or _recorded_prompting(opened)
        if prompting is not None:  # what a model cannot be asked as is refused before it is asked
            for model in (opened, before):
                with asked_as(model, prompting):
                    pass
        sets = AnswerSets(Path(forget).stem, **rows, more=more)
        return AnswerEvaluator(before, sets, metrics=asked.metrics, prompting=prompting)

    def driver(
        self, asked: Request, opened: Any, evaluator: Evaluator, suite: Suite, frozen: list[str]
    ) -> Any | None:
        """Attacks that learn from rows that no point asks: an attacker's own, else the sets' own."""
        from oubliette.audit.answer_runner import AnswerAttackRunner
        from oubliette.audit.setup import asked_prompts
        from oubliette.eval.text.answer_judge import AnswerJudge
        from oubliette.eval.text.evaluator import AnswerEvaluator

        assert isinstance(evaluator, AnswerEvaluator)
        sets, judge, own = evaluator.sets, evaluator.judges[0], _rows(asked.benign)
        assert isinstance(judge, AnswerJudge)
        kept = evaluator.plan(n=suite.pictures, each=suite.kept, seed=asked.seed).retained
        return AnswerAttackRunner(
            _rows(asked.data) or sets.forget,
            own or [*sets.other, *sets.retain],
            unrelated=own or sets.other,
            avoid=[
                *asked_prompts(suite, evaluator, suite.pictures, asked.seed),
                *(prompt for rest in kept for prompt in rest.prompts),
            ],
            frozen=frozen,
            seed=asked.seed,
            world=world_of(evaluator.base),
            paths={
                name: None if path is None else str(path)
                for name, path in (("concept", asked.data), ("benign", asked.benign))
            },
            asked=sets.forget,
            name=sets.name,
            judge=judge,
            sampling=evaluator.sampling,
            attached=getattr(opened, "attachment", None) is not None,
        )

    def judges(self, model: Any, names: Sequence[Judge | str]) -> list[Judge]:
        """None: that of answers comes with the rows; UserError for any that is named."""
        if names:
            raise UserError(f"{model.source}: is a {model.kind} model; judges look at pictures")
        return []

    def checker(
        self,
        before: Any,
        concepts: Sequence[Concept],
        judges: Sequence[Judge],
        sets: Mapping[str, Sequence[QA]],
        how: How | None,
    ) -> Evaluator | str:
        """A judge of answers on the sets that the recipe forgets and retains."""
        from oubliette.eval.text.answer_plan import AnswerSets
        from oubliette.eval.text.evaluator import AnswerEvaluator

        if "forget" not in sets:
            return "no rows to forget were named (of a stream, each request has its own)"
        name = Path(sets["forget"][0].where.rpartition(", ")[0]).stem or "forget"
        try:
            return AnswerEvaluator(before, AnswerSets(name, sets["forget"], sets.get("retain", ())))
        except UserError as error:
            return str(error)

    def refused(self, model: Any, sets: Mapping[str, Sequence[QA]]) -> str | None:
        """What the sets lack."""
        found = self.checker(model, (), (), sets, None)
        return found if isinstance(found, str) else None

    def tries(self, how: How, *, fixed: bool) -> Sequence[tuple[How, int]]:
        """From 400 answers down to 24."""
        return [(how, size) for size in _SIZES]

    def sized(self, size: int) -> dict[str, Any]:
        """As many rows of each set to keep as to forget."""
        return {"n": size, "each": size}

    def seconds(self, before: Any, evaluator: Evaluator) -> float:
        """Seconds of one answer among a few."""
        asked = evaluator.plan(n=_TIMED).targets[0].prompts
        evaluator.sampling.shortened().make(before, asked[:1], [0])
        begun = time.perf_counter()
        evaluator.sampling.make(before, asked, [0] * len(asked))
        return (time.perf_counter() - begun) / len(asked)

    def sample(self, model: Any, prompts: list[str], how: dict[str, Any]) -> dict[str, Any]:
        """Greedy answers."""
        for prompt in prompts:
            check_text(prompt, "the prompt", lines=True)
        return {
            "model": model.source,
            "prompts": prompts,
            "answers": model.respond(prompts, max_new_tokens=how["tokens"]),
        }

    def user_data(
        self, model: Any, source: Source, count: int, seed: int, kind: str | None, identifier: str | None
    ) -> Opened:
        """The first rows of a file of questions."""
        if identifier is not None:
            raise UserError("an identifier captions pictures; a language model has none")
        return _opened(model, source, _rows_of(source)[:count])

    def user_judge(self, model: Any, name: str | None) -> Judge | None:
        """None: that of answers comes with the rows; UserError for one that is named."""
        self.judges(model, [] if name is None else [name])
        return None

    def lesson(self, model: Any, taught: Teaching) -> Lesson:
        """Rows to be taught, and others of the same file to be asked: `n` of them, at most half."""
        from oubliette.eval.text.answer_plan import AnswerSets
        from oubliette.eval.text.evaluator import AnswerEvaluator

        source = taught.source
        rows = _by_hash(_rows_of(source), taught.seed)
        able = [row for row in rows if not row.plain and not row.history]
        held = able[: min(taught.n, len(rows) // 2)]
        asked = {row.question for row in held}
        # A question that stands twice is either asked or taught.
        shown = [row for row in rows if row.question not in asked]
        if not held or not shown:
            raise UserError(
                f"data {source.text!r}: has {len(rows)} rows, {len(able)} of them questions that can be "
                "asked alone; some must be left to be asked of a user who was not shown them"
            )
        evaluator = AnswerEvaluator(model, AnswerSets(source.name, held, able))
        return Lesson(
            evaluator.concepts[0],
            _opened(model, source, shown[: taught.count]).data,
            evaluator.plan(n=len(held), each=1, seed=taught.seed).targets[0],
            evaluator.judges[0],
            evaluator.sampling,
        )


def _by_hash(rows: Sequence[QA], seed: int) -> list[QA]:
    def rank(row: QA) -> bytes:
        return hashlib.sha256(f"{seed}\0{row.question}\0{row.answer}".encode()).digest()

    return sorted(rows, key=rank)


def _opened(model: Any, source: Source, rows: Sequence[QA]) -> Opened:
    from oubliette.train.tasks.answering import Answering

    assert source.path is not None
    digest = hashlib.sha256(repr([row.facts() for row in rows]).encode()).hexdigest()
    facts = {"name": source.name, "from": source.path.name, "rows": len(rows), "sha256": digest}
    return Opened(Answering(model, rows), facts)


def _rows_of(source: Source) -> list[QA]:
    if source.path is None:
        raise UserError(
            f"data {source.text!r}: no such file; a language model learns from JSONL of questions"
        )
    return _rows(source.path)


def _path_of(asked: Request, opened: Any, name: str) -> Path | str | None:
    """The file of a set as it is named, else as the record of the model has it."""
    given: Path | str | None = getattr(asked, name)
    if given is not None:
        return given
    source = Path(str(opened.source))
    recipe = read_manifest(source).get("recipe", {}) if source.is_dir() else {}
    recorded = recipe.get(name)
    if recorded is not None and not Path(recorded).is_file() and not named_on_hub(recorded):
        raise UserError(
            f"{opened.source}: its record names {recorded} as what it was to {name}, and that is not there; "
            f"name it (--{name})"
        )
    return recorded


def _recorded_prompting(opened: Any) -> Prompting | None:
    """How the record of the model says that questions were put when it was made."""
    from oubliette.backends.prompting import Prompting

    source = Path(str(opened.source))
    found = (read_manifest(source).get("recipe", {}) if source.is_dir() else {}).get("prompting")
    return validated(Prompting, found, f"{source}: prompting") if found else None


def _rows(path: Path | str | None) -> list[QA]:
    from oubliette.data.questions import read_questions

    return [] if path is None else read_questions(path)
