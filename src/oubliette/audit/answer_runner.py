"""The attacks on a model that answers, put to work for an audit: fine-tuning on rows."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from oubliette.attack.catalogue import Attack
from oubliette.attack.relearn import relearn
from oubliette.audit.context import Described, Reword
from oubliette.audit.resolve import describe, resolve
from oubliette.audit.suite import ProbeRow, PromptsRow, RelearnRow
from oubliette.core.errors import UserError
from oubliette.data.questions import QA
from oubliette.data.wording import ANSWERS
from oubliette.eval.pictures.sampling import Sampling
from oubliette.train.cost import Cost
from oubliette.train.tasks.answering import Answering
from oubliette.world.world import OPEN, World

__all__ = ["AnswerAttackRunner"]

_UNABLE = "it needs a model that draws"


class AnswerAttackRunner:
    """Fine-tuning on questions and answers (`oubliette.audit.context.AttackRunner`).

    `concept` are rows of what was to be forgotten, `benign` rows of other matters; those whose questions are
    among `avoid`, which the audit asks, are shown by no attack. Rows of a suite that would need pictures are
    skipped.
    """

    def __init__(
        self,
        concept: Sequence[QA],
        benign: Sequence[QA],
        *,
        avoid: Sequence[str] = (),
        frozen: Sequence[str] = (),
        seed: int = 0,
        paths: dict[str, str | None] | None = None,
        world: World = OPEN,
    ) -> None:
        asked = set(avoid)
        self._rows = {
            what: [row for row in rows if row.question not in asked]
            for what, rows in (("concept", concept), ("benign", benign))
        }
        self.frozen, self.seed, self.world = list(frozen), seed, world
        self.paths = paths or {}
        """Where the auditor's own rows lie."""
        self.skipped: dict[str, str] = {}

    def describe(self, spec: Any) -> Described:
        """Title, line, budget and cost of a row on one subject, without what it takes to look."""
        if isinstance(spec, PromptsRow | ProbeRow):
            which = spec.attack if isinstance(spec, PromptsRow) else spec.probe
            title = spec.name or f"{spec.kind.capitalize()}: {which}"
            return Described(title, "", {}, Cost(), skip=f"not applicable: {_UNABLE}", moot=True)
        return describe(spec, self.world, Sampling(), frozen=len(self.frozen), given=True, wording=ANSWERS)

    def facts(self, spec: Any, seed: int) -> Any:
        """What a row's outcome depends on beside the row itself."""
        found = resolve(spec, self.world)
        rows = [row.facts() for row in self._shown(found, seed)]
        digest = hashlib.sha256(repr(rows).encode()).hexdigest()
        return [found.model_dump(mode="json"), digest, sorted(self.frozen)]

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

    def search(self, spec: Any, model: Any, **_: Any) -> NoReturn:
        """UserError: searches look at pictures."""
        raise UserError(f"{spec.attack}: {_UNABLE}")

    def tries(self, spec: Any) -> int:
        """None."""
        return 0

    def csv(self, spec: Any, found: Sequence[Any]) -> str:
        """Nothing is found."""
        return ""

    def probe(self, spec: Any, model: Any, **_: Any) -> NoReturn:
        """UserError: probes look at pictures."""
        raise UserError(f"{spec.probe}: {_UNABLE}")

    def _shown(self, found: Attack, seed: int) -> list[QA]:
        """The rows that an attack shows, in the order of their hashes with the seed."""
        what = "benign" if found.benign else "concept"
        rows = self._rows[what]
        if not rows:
            said = "to be forgotten" if what == "concept" else "of other matters"
            raise UserError(
                f"no row {said} is left for an attacker: the audit asks them all; ask fewer (the suite's "
                "'pictures' and the evaluation's n), or give rows of your own (--data, --benign)"
            )

        def rank(row: QA) -> bytes:
            return hashlib.sha256(f"{seed}\0{row.question}\0{row.answer}".encode()).digest()

        return sorted(rows, key=rank)[: found.budget.pictures]
