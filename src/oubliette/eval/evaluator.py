"""What is measured and with what, whatever a model makes: plans, judges, and how models are asked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from oubliette.data.concept import Concept
from oubliette.eval.judge import Judge
from oubliette.eval.meter import Reader
from oubliette.eval.pictures.fidelity import Extractor
from oubliette.eval.plan import Plan
from oubliette.eval.sample_store import How

__all__ = ["Evaluator"]


class Evaluator(Protocol):
    """Measures what models of one modality (pictures, answers) show of some concepts."""

    #: What a model makes, in the plural: "pictures".
    noun: str

    @property
    def concepts(self) -> Sequence[Concept]:
        """What was to be forgotten."""
        ...

    @property
    def judges(self) -> Sequence[Judge]:
        """Who says whether a sample shows a concept; the first that covers it decides."""
        ...

    @property
    def sampling(self) -> How:
        """How models are asked."""
        ...

    @property
    def extractor(self) -> Extractor | None:
        """What gives features for KID and distances, where samples have any."""
        ...

    @property
    def words(self) -> list[str]:
        """The words that a prompt filter would drop."""
        ...

    def about(self, concepts: Sequence[Concept]) -> Evaluator:
        """The same for other concepts; UserError where it cannot be asked about any."""
        ...

    def plan(self, *, n: int, each: int | None = None, near_n: int | None = None, seed: int = 0) -> Plan:
        """Prompts and seeds: `n` a concept and split, `each` a retained concept, `near_n` a near neighbour.

        UserError for what cannot be measured.
        """
        ...

    def meter(self, *, n: int, seed: int = 0, gold: bool = False) -> tuple[Reader | None, list[str]]:
        """What else is read of each row, on `n` items a set, and what must be said of it.

        UserError for a metric that lacks what it needs; `gold` says that a model is there that never knew
        what was to be forgotten.
        """
        ...

    def settings(self) -> dict[str, Any]:
        """How models are asked, as an evaluation records it: steps, guidance, sampler, prompts_csv."""
        ...
