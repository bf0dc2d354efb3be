"""What the benchmark of streams compares, as data: records, who learns them, who erases, the claims."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field, model_validator

from oubliette.bench.cells import Cell, Subject, Target, Trials, cells_of
from oubliette.bench.shipped import plan_content
from oubliette.core.errors import UserError, suggest
from oubliette.core.validation import StrictModel, validated

if TYPE_CHECKING:
    from oubliette.workflows.order import Order

__all__ = ["MEASURES", "Claim", "Learning", "Plan", "StreamSubject", "Twin", "order_of", "read_plan"]

#: What a claim may be about, from 0 to 1 (or a difference of such); see `figures.measures`.
MEASURES = {
    "F.D.": "forgetting degree after the last request, against the interpolated reference",
    "R.U.": "retained utility after the last request, against the interpolated reference",
    "mean F.D.": "the same, mean over checkpoints",
    "mean R.U.": "the same, mean over checkpoints",
    "R.U. since the first": "R.U. after the last request less that at the first checkpoint",
    "F.D. (twins)": "forgetting degree, mean over checkpoints, against models never taught the requests",
    "R.U. (twins)": "retained utility, mean over checkpoints, against the same models",
    "recovered": "score of what was to go after relearning, at worst, less before, over 100",
    "F.D. moved by relearning": "the greatest change of F.D. over epochs of relearning, either way",
    "F.D. moved by rounding": "the greatest change of F.D. over bits, either way",
}


class StreamSubject(Subject):
    """A method, or a preset with a policy, run on every request; `retain` gives it the retain half's texts.

    `copies` puts as many copies of earlier requests into its stream.
    """

    retain: bool = True
    copies: int = Field(default=0, ge=0)


class StreamTrials(Trials):
    """A method tried with several values, with or without the retain half's texts."""

    name: str
    retain: bool = True

    def subjects(self) -> list[Subject]:
        """The trials as subjects."""
        made: list[Subject] = []
        for one in super().subjects():
            words = one.name.partition(": ")[2]
            facts: dict[str, Any] = {"name": f"{self.name}: {words}", "method": self.method, "set": one.set}
            made.append(StreamSubject(**facts, retain=self.retain, attacked=False))
        return made


class Learning(StrictModel):
    """How texts and questions are learned by heart, full fine-tuning with AdamW, and from what share of a
    half's tokens on a model knows it.
    """

    epochs: int = Field(default=16, ge=1)
    batch: int = Field(default=16, ge=1)
    learning_rate: float = Field(default=1.5e-3, gt=0)
    warm_up: int = Field(default=10, ge=0)
    seed: int = Field(default=0, ge=0)
    least: float = Field(default=0.95, gt=0, le=1)


class Relearning(StrictModel):
    """An attacker's epochs on the texts of every second request, looked at after each of `at`."""

    at: list[int] = Field(default=[1, 2, 3, 4, 5], min_length=1)
    batch: int = Field(default=10, ge=1)
    learning_rate: float = Field(default=5e-4, gt=0)


class Claim(StrictModel):
    """Something to be held against the cells: a measure of `subject`, less that of `against` order by order
    (one claim for each of those; of the subject alone where none is named), lies `above` or `below` a number.
    """

    says: str
    measure: str
    subject: str
    against: list[str] = Field(default_factory=list)
    above: float | None = None
    below: float | None = None

    @model_validator(mode="after")
    def _one(self) -> Claim:
        if (self.above is None) == (self.below is None):
            raise ValueError("give 'above' or 'below'")
        if self.measure not in MEASURES:
            raise ValueError(f"no measure is called '{self.measure}'; {suggest(self.measure, MEASURES)}")
        return self


class Twin(StrictModel):
    """A model that the benchmark trains: on both halves, or without the first `gone` requests of an order."""

    name: str
    order: int | None = None
    gone: int = 0

    @property
    def key(self) -> str:
        """Its name, and its folder's."""
        return self.name


class Plan(StrictModel):
    """A benchmark of streams of records.

    `orders` are seeds of permutations, a run each. After each of the `checkpoints` (numbers of a stream
    without copies; one with copies has them where as many originals were asked for) the records are asked.
    `twins`: models that never learned the requests so far are trained for every order and checkpoint.
    """

    benchmark: str = "streams"
    name: str = "plan"
    about: str = ""
    base: str = "nano-lm"
    forget: int = Field(default=60, ge=2)
    retain: int = Field(default=60, ge=1)
    seed: int = Field(default=0, ge=0)
    learn: Learning = Field(default_factory=Learning)
    orders: list[int] = Field(default=[30, 40, 20, 50], min_length=1)
    checkpoints: list[int] = Field(min_length=1)
    requests: int | None = Field(default=None, ge=1)
    tokens: int = Field(default=24, ge=1)
    twins: bool = False
    subjects: list[StreamSubject] = Field(default_factory=list)
    trials: list[StreamTrials] = Field(default_factory=list)
    relearn: Relearning | None = None
    bits: list[int] = Field(default_factory=list)
    claims: list[Claim] = Field(default_factory=list)

    @model_validator(mode="after")
    def _fits(self) -> Plan:
        names = [subject.name for subject in self.everyone]
        if not names:
            raise ValueError("give subjects, or trials of a method")
        if len(set(names)) != len(names):
            raise ValueError("two subjects have one name")
        if sorted(set(self.checkpoints)) != self.checkpoints or self.checkpoints[0] < 1:
            raise ValueError("checkpoints are numbers of requests from 1 that grow, as in [12, 24, 60]")
        if self.checkpoints[-1] != self.asked:
            raise ValueError(
                f"the last checkpoint is {self.checkpoints[-1]}, and the stream has {self.asked} requests: "
                "end there"
            )
        for subject in self.everyone:
            if subject.copies and (self.asked < self.forget or subject.copies > self.forget):
                raise ValueError(
                    f"'{subject.name}' has copies: of a whole stream, and no more than it has requests"
                )
        for claim in self.claims:
            for name in (claim.subject, *claim.against):
                if name not in names:
                    raise ValueError(f"a claim names '{name}'; {suggest(name, names)}")
        return self

    @property
    def asked(self) -> int:
        """How many of the forget half are asked for, the first of each order."""
        return self.forget if self.requests is None else min(self.requests, self.forget)

    @property
    def everyone(self) -> list[StreamSubject]:
        """The subjects, and every trial as one."""
        tried = [subject for trials in self.trials for subject in trials.subjects()]
        return [*self.subjects, *(one for one in tried if isinstance(one, StreamSubject))]

    def cells(self) -> list[Cell]:
        """Every (subject, order), first orders first; a cell's seed is the place of its order."""
        return cells_of(self.everyone, [Target(name="records", runs=len(self.orders))])

    def models(self) -> list[Twin]:
        """What is trained before anything is erased: on all, on the retain half alone, and the twins."""
        made = [Twin(name="learned"), Twin(name="retained", gone=self.forget)]
        if self.twins:
            made += [
                Twin(name=f"without-{order}-{gone}", order=order, gone=gone)
                for order in self.orders
                for gone in self.checkpoints
                if gone < self.forget
            ]
        return made


def order_of(subject: StreamSubject, data: Path, seed: int) -> Order:
    """What is ordered for all requests of a subject's stream."""
    from oubliette.workflows.order import Order

    return Order(
        method=subject.method,
        retain=data / "retain_text.jsonl" if subject.retain else None,
        seed=seed,
        overrides=subject.set,
    )


def read_plan(source: str | Path = "fit") -> Plan:
    """A shipped plan by name, or one in a YAML file; UserError for unknown keys, and for subjects that are no
    methods or whose settings do not fit the base.
    """
    from oubliette.backends import open_model
    from oubliette.recipe import validate
    from oubliette.workflows.compose import compose

    content, where = plan_content(source)
    plan = validated(Plan, content, where)
    opened: Any = open_model(plan.base)
    for subject in plan.everyone:
        try:
            if subject.method is None:
                raise UserError("a stream is of a method: give 'method'")
            validate(compose(opened, order_of(subject, Path("."), 0)))
        except UserError as error:
            raise UserError(f"{where}: subject '{subject.name}': {error}") from None
    return plan
