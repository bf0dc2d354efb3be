"""What a model can do decides how it is measured and attacked: the one place that tells modalities apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from oubliette.core.errors import UserError
from oubliette.eval.evaluator import Evaluator
from oubliette.workflows.answers import Answers
from oubliette.workflows.pictures import Pictures

if TYPE_CHECKING:
    from oubliette.audit.suite import Suite
    from oubliette.data.concept import Concept
    from oubliette.data.questions import QA
    from oubliette.eval.judge import Judge
    from oubliette.eval.sample_store import How
    from oubliette.workflows.request import Request
    from oubliette.workflows.user_data import Lesson, Opened, Source, Teaching

__all__ = ["ANSWERS", "PICTURES", "Modality", "modality_of"]


class Modality(Protocol):
    """What models make, and what follows from it."""

    #: What they make: "pictures".
    noun: str
    #: What a model must be able to do, as the names of its methods.
    capability: tuple[str, ...]
    #: The suite that an audit runs where none is named.
    suite: str
    #: The entry of the catalogue that relearns where neither it nor a mode is named.
    attack: str
    #: Where a judge finds what a guard's user learned: "shows in {share} of {n} pictures".
    holding: str
    #: The method that erases where none is named.
    method: str

    # -- erasing
    def retain(self, raw: dict[str, Any], retain: Path | str | Sequence[str]) -> None:
        """Put what must stay into a raw recipe."""
        ...

    # -- measuring
    def evaluator(self, asked: Request, opened: Any, before: Any, how: How | None) -> Evaluator:
        """What measures: from what is asked for, else what the record of the `opened` model names."""
        ...

    def driver(
        self, asked: Request, opened: Any, evaluator: Evaluator, suite: Suite, frozen: list[str]
    ) -> Any | None:
        """An audit's attacks on the `opened` model; None for those that `make_context` makes."""
        ...

    # -- the check after an erasure
    def judges(self, model: Any, names: Sequence[Judge | str]) -> list[Judge]:
        """The judges named, else those that are known; UserError for what cannot judge this model."""
        ...

    def checker(
        self,
        before: Any,
        concepts: Sequence[Concept],
        judges: Sequence[Judge],
        sets: Mapping[str, Sequence[QA]],
        how: How | None,
    ) -> Evaluator | str:
        """What measures an erasure at once, or in words why nothing can."""
        ...

    def refused(self, model: Any, sets: Mapping[str, Sequence[QA]]) -> str | None:
        """Why an erasure of these could only end without a verdict, whoever judges; else None."""
        ...

    def tries(self, how: How, *, fixed: bool) -> Sequence[tuple[How, int]]:
        """How a check may ask and how many samples a concept and split it takes then, the best first; asked
        in no other way where that is `fixed`.
        """
        ...

    def sized(self, size: int) -> dict[str, Any]:
        """What `size` means as options of `eval.evaluate.measure`."""
        ...

    def seconds(self, before: Any, evaluator: Evaluator) -> float:
        """Seconds of one sample, timed on a few."""
        ...

    # -- sampling and guarding
    def sample(self, model: Any, prompts: list[str], how: dict[str, Any]) -> dict[str, Any]:
        """What the model makes of prompts, and the facts of it (`workflows.sample`)."""
        ...

    def user_data(
        self, model: Any, source: Source, count: int, seed: int, kind: str | None, identifier: str | None
    ) -> Opened:
        """The first `count` rows of a source that a user fine-tunes on."""
        ...

    def user_judge(self, model: Any, name: str | None) -> Judge | None:
        """Who judges what a guard's users learn, by name or as is known; None where that depends on the data.

        UserError where none is known.
        """
        ...

    def lesson(self, model: Any, taught: Teaching) -> Lesson:
        """The rows to be taught, and what is then to be asked."""
        ...


PICTURES, ANSWERS = Pictures(), Answers()
_ALL: tuple[Modality, ...] = (PICTURES, ANSWERS)


def modality_of(model: Any) -> Modality:
    """The modality of an opened model, by what it can do; UserError for one that can do nothing known."""
    for modality in _ALL:
        if all(hasattr(model, name) for name in modality.capability):
            return modality
    raise UserError(f"{model.source}: neither draws nor answers, so there is nothing to measure")
