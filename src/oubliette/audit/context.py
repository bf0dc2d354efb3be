"""What the rows of an audit share: who is attacked, with what, how it is measured, where results are kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from oubliette.attack.types import Hits
from oubliette.audit.attack_cache import AttackCache
from oubliette.audit.leakage_meter import LeakageMeter
from oubliette.audit.paired import paired_difference
from oubliette.audit.result import GOLD, MODEL, NOVEL, LeakageGap
from oubliette.audit.suite import Suite
from oubliette.data.concept import Concept
from oubliette.eval.evaluator import Evaluator
from oubliette.eval.judge import Judge
from oubliette.eval.sampler import CachedSampler
from oubliette.train.cost import Cost

__all__ = ["AttackRunner", "AuditContext", "Described", "NovelReference", "Reword", "Subject", "excess"]

#: Told what is being done, and how much of the row that leaves behind (0 to 1).
Tell = Callable[[str, float], None]
Reword = Callable[[str], str]


@dataclass(frozen=True)
class Described:
    """A row before it runs: a title, a line about it, the whole budget, its cost on one subject, updates.

    `skip` says why it cannot be run at all, where that is known beforehand; `moot` that nothing is lost by
    that, as there is nothing for it to try. `sweep` counts further runs, on the model alone, that settle the
    budget of the row's own; `looks` how often the meter looks at a subject where nothing is fine-tuned.
    """

    title: str
    about: str
    budget: dict[str, Any]
    cost: Cost
    steps: int = 0
    skip: str = ""
    sweep: int = 0
    moot: bool = False
    looks: int = 0


class AttackRunner(Protocol):
    """The attacks, as the audit needs them."""

    def describe(self, spec: Any) -> Described:
        """What a row will do and cost; UserError where it cannot be done."""
        ...

    def facts(self, spec: Any, seed: int) -> Any:
        """All that an attack depends on beside the model and the row: its data."""
        ...

    def rewrite(self, spec: Any) -> Reword | None:
        """How prompts are put to a model under this attack; None: as they are."""
        ...

    def relearn(
        self, spec: Any, model: Any, *, seed: int, at: Sequence[int], look: Callable[[int, Any], None]
    ) -> str:
        """Fine-tune, calling `look` after the steps in `at`; the model comes back as it was; a note."""
        ...

    def search(self, spec: Any, model: Any, *, hits: Hits, seed: int) -> Sequence[Any]:
        """Search for prompts: `oubliette.attack.prompts.Found`, one a case."""
        ...

    def tries(self, spec: Any) -> int:
        """How many adversarial prompts a case has at most."""
        ...

    def csv(self, spec: Any, found: Sequence[Any]) -> str:
        """What was found as the field's CSV."""
        ...

    def check_replay(self, originals: Sequence[str]) -> None:
        """UserError for an original prompt of a table by which nothing could be judged."""
        ...

    def probe(self, spec: Any, model: Any, *, hits: Hits, seed: int) -> Any:
        """Probe: `oubliette.attack.probes.probe.Shown`."""
        ...


@dataclass(frozen=True)
class Subject:
    """Who is put through a row, taught what, and measured how: the model, gold, or a novel concept."""

    name: str
    painter: CachedSampler
    meter: LeakageMeter
    driver: AttackRunner


@dataclass(frozen=True)
class NovelReference:
    """A concept that the model does not know, in gold's place, with attacks and a gauge of its own.

    `source` says where its pictures come from.
    """

    concept: Concept
    meter: LeakageMeter
    driver: AttackRunner
    source: str


@dataclass
class AuditContext:
    """Everything that rows share: who is attacked, how it is measured, where parts are kept."""

    model: CachedSampler
    base: CachedSampler
    gold: CachedSampler | None
    concept: Concept
    judges: list[Judge]
    evaluator: Evaluator
    meter: LeakageMeter
    suite: Suite
    driver: AttackRunner
    parts: AttackCache
    seed: int = 0
    frozen: Sequence[str] = ()
    tell: Tell = lambda note, share: None
    novel: NovelReference | None = None

    def subjects(self, spec: Any) -> list[Subject]:
        """Who is put through a row: the model, then gold or what stands in for it, if the row wants it.

        A novel concept can only be taught: it stands in where a row fine-tunes on the concept.
        """
        found = [Subject(MODEL, self.model, self.meter, self.driver)]
        if self.gold is not None and spec.gold:
            found.append(Subject(GOLD, self.gold, self.meter, self.driver))
        if self.novel is not None and spec.gold and spec.kind == "relearn":
            found.append(Subject(NOVEL, self.model, self.novel.meter, self.novel.driver))
        return found


def excess(own: np.ndarray, other: np.ndarray, span: float, where: str) -> LeakageGap:
    """How much more of the base's strength (`span`) booleans (n,) show than others of the same pictures."""
    found = paired_difference(own, other)
    assert found.low is not None
    assert found.high is not None
    return LeakageGap(found.value / span, found.low / span, found.high / span, found.n, where)
