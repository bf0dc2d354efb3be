"""The attacks on a model that answers, put to work for an audit: fine-tuning, searches, probes."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from oubliette.attack.catalogue import Attack
from oubliette.attack.prompts import found_table
from oubliette.attack.prompts.records import Case, Found
from oubliette.attack.relearn import relearn
from oubliette.attack.types import Hits
from oubliette.audit.context import Described, Reword
from oubliette.audit.resolve import changes_weights, describe, make_probe, make_search, resolve
from oubliette.audit.suite import ProbeRow, PromptsRow, RelearnRow
from oubliette.core.errors import UserError
from oubliette.data.concept import FACTS, Concept
from oubliette.data.questions import QA, read_questions
from oubliette.data.wording import ANSWERS
from oubliette.eval.text.answer_judge import AnswerJudge
from oubliette.eval.text.decoding import Decoding
from oubliette.train.tasks.answering import Answering
from oubliette.world.world import OPEN, World

if TYPE_CHECKING:
    from oubliette.attack.probes.probe import Shown

__all__ = ["AnswerAttackRunner"]


class AnswerAttackRunner:
    """The attack room for models that answer (`oubliette.audit.context.AttackRunner`).

    `concept` are rows of what was to be forgotten, `benign` rows of other matters, `unrelated` such as have
    nothing to do with either: an attacker's own, or the sets'. Those whose questions are among `avoid`, which
    the audit asks, are shown by no attack. Searches and probes ask about those rows of `asked` that the audit
    asks, or about all where it names none. `judge` and `sampling` are the evaluation's.
    `attached`: the model under audit has an attachment.
    """

    def __init__(
        self,
        concept: Sequence[QA],
        benign: Sequence[QA],
        *,
        unrelated: Sequence[QA] = (),
        avoid: Sequence[str] = (),
        frozen: Sequence[str] = (),
        seed: int = 0,
        paths: dict[str, str | None] | None = None,
        asked: Sequence[QA] = (),
        name: str = "forget",
        judge: AnswerJudge | None = None,
        sampling: Decoding | None = None,
        world: World = OPEN,
        attached: bool = False,
    ) -> None:
        known = set(avoid)
        self._rows = {
            what: [row for row in rows if row.question not in known]
            for what, rows in (("concept", concept), ("benign", benign), ("unrelated", unrelated))
        }
        able = [row for row in asked or concept if not row.plain and not row.history]
        self._asked = [row for row in able if row.question in known] or able
        self.frozen, self.seed, self.world = list(frozen), seed, world
        self.concept, self._attached = Concept(name, "", FACTS), attached
        self.judge, self.sampling = judge or AnswerJudge({}), sampling or Decoding()
        self.paths = paths or {}
        """Where the auditor's own rows lie."""
        self.skipped: dict[str, str] = {}

    def describe(self, spec: Any) -> Described:
        """Title, line, budget and cost of a row on one subject, without what it takes to look."""
        if isinstance(spec, PromptsRow) and spec.rows is not None:
            self._cases(spec, self.seed)  # a file that cannot be read is refused before anything runs
        made = describe(
            spec,
            self.world,
            self.sampling,
            frozen=len(self.frozen),
            given=True,
            attached=self._attached,
            wording=ANSWERS,
        )
        if made.budget.get("data") == "unrelated" and not made.skip and not self._rows["unrelated"]:
            return replace(made, skip="it wants rows of unrelated matters; give some (--benign)")
        return made

    def facts(self, spec: Any, seed: int) -> Any:
        """What a row's outcome depends on beside the row itself."""
        if changes_weights(spec):
            return []
        if isinstance(spec, PromptsRow | ProbeRow):
            made = make_search(spec, self.world) if isinstance(spec, PromptsRow) else make_probe(spec)
            shown = self._rows if "examples" in made.needs else {}
            digests = [_digest(self._cases(spec, seed)), *map(_digest, shown.values())]
            return [made.options.model_dump(mode="json"), *digests, self.sampling.facts(None)]
        found = resolve(spec, self.world)
        return [found.model_dump(mode="json"), _digest(self._shown(found, seed)), sorted(self.frozen)]

    def rewrite(self, spec: Any) -> Reword | None:
        """Questions are put as they are."""
        return None

    def relearn(
        self, spec: RelearnRow, model: Any, *, seed: int, at: Sequence[int], look: Callable[[int, Any], None]
    ) -> str:
        """Fine-tune and look; the model comes back bit for bit."""
        found = resolve(spec, self.world)
        rows, wanted = self._shown(found, seed), found.budget.pictures
        relearn(
            model,
            Answering(model, rows),
            found.mode,
            found.budget.changed(seed=seed),
            frozen=self.frozen or None,
            at=at,
            look=look,
            options=dict(found.options),
        )
        return f"only {len(rows)} of {wanted} rows were there" if len(rows) < wanted else ""

    def seconds_an_item(self, spec: RelearnRow, model: Any, steps: int = 2) -> float:
        """Seconds of one row forwards and backwards, timed on a few updates; the model is as before."""
        found = resolve(spec, self.world)
        budget = found.budget.changed(steps=steps, warm_up=0)
        done = relearn(
            model,
            Answering(model, self._shown(found, self.seed)[:4]),
            found.mode,
            budget,
            frozen=self.frozen or None,
            options=dict(found.options),
        )
        return done.seconds / (steps * budget.batch * budget.accumulation)

    def search(self, spec: PromptsRow, model: Any, *, hits: Hits, seed: int) -> list[Found]:
        """Search for prompts that bring the answers back."""
        rows = self._cases(spec, seed)
        found: list[Found] = make_search(spec, self.world).search(
            model,
            self.concept,
            _as_cases(rows),
            hits if spec.rows is None else self._judging(rows),
            sampling=self.sampling,
            seed=seed,
            examples=lambda what: self._ranked(what, seed),
        )
        return found

    def tries(self, spec: PromptsRow) -> int:
        """Adversarial prompts a case has at most."""
        return int(make_search(spec, self.world).tries())

    def csv(self, spec: PromptsRow, found: Sequence[Found]) -> str:
        """The field's table of prompts."""
        return found_table(found, attack=spec.attack, concept=self.concept.name)

    def check_replay(self, originals: Sequence[str]) -> None:
        """UserError for one that is no question of the rows: nothing says what answers it."""
        unknown = next((one for one in originals if not self.judge.knows(self.concept, one)), None)
        if unknown is not None:
            raise UserError(
                f"the original prompt {unknown[:60]!r} is no question of {self.concept.name}, so nothing "
                "says what answers it; give a table with original_prompt, and the rows it is of (--forget)"
            )

    def probe(self, spec: ProbeRow, model: Any, *, hits: Hits, seed: int) -> Shown:
        """Probe the model with the questions to be forgotten."""
        made = make_probe(spec)
        shown: Shown = made.run(
            model,
            self.concept,
            _as_cases(self._cases(spec, seed)),
            sampling=self.sampling,
            seed=seed,
            hits=hits if made.wants_hits else None,
            examples=lambda what: self._ranked(what, seed),
        )
        return shown

    def _cases(self, spec: PromptsRow | ProbeRow, seed: int) -> list[QA]:
        """The rows that a search or a probe asks about: the audit's own, or those of the row's file."""
        rows = self._asked
        if isinstance(spec, PromptsRow) and spec.rows is not None:
            rows = [row for row in read_questions(spec.rows) if not row.plain and not row.history]
            if not rows:
                raise UserError(f"{spec.rows}: holds no question that could be asked on its own")
        return _by_hash(rows, seed)[: spec.cases]

    def _judging(self, rows: Sequence[QA]) -> Hits:
        """The evaluation's judge, of other rows."""
        expected = {row.question: (row.answer, *row.alternatives) for row in rows}
        judge = self.judge.of({self.concept: expected})
        return lambda samples: judge.hits(samples, self.concept)

    def _shown(self, found: Attack, seed: int) -> list[QA]:
        """The rows that an attack trains on."""
        what = found.data if found.data in self._rows else "benign" if found.benign else "concept"
        return self._ranked(what, seed)[: found.budget.pictures]

    def _ranked(self, what: str, seed: int) -> list[QA]:
        """The rows that an attack may show, in the order of their hashes with the seed."""
        rows = self._rows[what]
        if not rows:
            said = {"concept": "to be forgotten", "benign": "of other matters"}.get(what, "of unrelated ones")
            raise UserError(
                f"no row {said} is left for an attacker: the audit asks them all; ask fewer (the suite's "
                "'pictures' and the evaluation's n), or give rows of your own (--data, --benign)"
            )
        return _by_hash(rows, seed)


def _by_hash(rows: Sequence[QA], seed: int) -> list[QA]:
    def rank(row: QA) -> bytes:
        return hashlib.sha256(f"{seed}\0{row.question}\0{row.answer}".encode()).digest()

    return sorted(rows, key=rank)


def _as_cases(rows: Sequence[QA]) -> list[Case]:
    return [Case(row.question, 0, row.paraphrases) for row in rows]


def _digest(rows: Sequence[QA]) -> str:
    said = [[row.facts(), row.alternatives, row.paraphrases] for row in rows]
    return hashlib.sha256(repr(said).encode()).hexdigest()
