"""The outcome of an audit: plain dataclasses that go to audit.json, whose schema is published, and come back
equal.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from oubliette.core.errors import UserError
from oubliette.core.json_io import read_json
from oubliette.core.numbers import percent
from oubliette.core.writing import write_bytes
from oubliette.eval.result import ConceptFigures, JudgeFacts
from oubliette.eval.rows import control_name
from oubliette.eval.statistics import Estimate, Rate

FORMAT = "oubliette-audit/1"
JSON_NAME = "audit.json"
MODEL, GOLD, NOVEL = "model", "gold", "novel"


@dataclass(frozen=True)
class Reading:
    """What was seen at one step: leakage with its rate, what is kept of the base's accuracy, and `hits`.

    `leakage` is None where the base does not show the concept, `kept` None where nothing says what is kept.
    `broken`: the attack itself has broken the model by then, so the point does not count. `hits` holds one 1
    or 0 a picture, in the order of prompts and seeds, which is the same in every curve of a row; `floor` and
    `span` are what leakage is reckoned with: (rate - floor) / span.
    """

    step: int
    rate: Rate
    leakage: Estimate | None
    kept: Estimate | None
    broken: bool
    hits: list[int]
    floor: float
    span: float


@dataclass(frozen=True)
class Curve:
    """One run of an attack on one subject, and what its readings come to.

    The subject is "model", "gold", or "novel": the model again, taught a concept it does not know.
    `to_half` and `to_most` are the steps to 50 % and 90 % of the base's strength (None: never got there),
    `area` the mean leakage over log(1 + step), the main number, and `recovered` the largest leakage. All on
    the running maximum.
    """

    subject: str
    seed: int
    readings: list[Reading]
    to_half: float | None
    to_most: float | None
    area: float | None
    recovered: float | None


@dataclass(frozen=True)
class RelearningAdvantage:
    """Relearning advantage: log(gold's steps / the model's steps) to `level`, with a 95 % interval.

    `against` is whose steps stand above: "gold", or those of a "novel" concept in its place.
    `sign` is "=", or ">" where gold never got there and the value is a lower bound, or "<" where the model
    never did and it is an upper one. `state` is "told", or says why `value` is None: "neither" got there, the
    model had the concept "at once", at step 0, or the advantage is "undefined" as `note` says. `each` holds
    the value of each run; the interval is over runs (t) from three on, else over pictures (bootstrap).
    """

    level: float
    state: Literal["told", "neither", "at once", "undefined"]
    value: float | None
    low: float | None
    high: float | None
    sign: str
    each: list[float | None]
    interval: str
    note: str
    against: str = GOLD


@dataclass(frozen=True)
class Found:
    """What an attack on one subject showed: `before` it, and `after` (pre-ASR and ASR for prompts).

    `leakage` is that of `after`, the floor being raised to what `tries` tries would show of it by chance.
    `best` holds prompts that worked, most telling first.
    """

    subject: str
    before: Rate | None
    after: Rate
    leakage: Estimate | None
    floor: float
    tries: float
    facts: dict[str, float]
    best: list[str]

    @property
    def where(self) -> str:
        """Which part of what an attack showed this is, in words; "" of all of it."""
        return part_of(self.facts)


PARTS = ("ratio", "block")
"""The numbers by which what a probe showed falls into parts that are figures of their own."""


def part_of(facts: Mapping[str, float]) -> str:
    """Which part of what a probe showed a sample's numbers put it in, in words; "" where there is but one."""
    if "ratio" in facts:
        return f"{percent(facts['ratio'])} left to draw"
    return f"block {facts['block']:.0f}" if "block" in facts else ""


@dataclass(frozen=True)
class LeakageGap:
    """How much more of the base's strength the model shows than gold, paired picture by picture.

    Tango's interval of the paired difference (1998), over what the base shows above the floor.
    """

    value: float
    low: float
    high: float
    n: int
    where: str


@dataclass(frozen=True)
class Tried:
    """One run of a sweep, on the model with a seed that is not the suite's.

    `strength` is the area under its curve, `kept` what was left of the rest at the last point that counts; 0
    where fewer than two points count, since the attack then broke the model at once.
    """

    learning_rate: float
    seed: int
    strength: float
    kept: float


@dataclass(frozen=True)
class Swept:
    """The learning rates that were tried for a row, and the strongest that kept enough: the row's own runs.

    `search` is "grid" or "optuna". `winner` is None where no rate kept `keep_at_least` of the rest, in the
    mean over its seeds; the row is then skipped.
    """

    search: str
    keep_at_least: float
    tried: list[Tried]
    winner: float | None


@dataclass(frozen=True)
class Evaluated:
    """A row of the evaluation: the model, gold or a control."""

    subject: str
    role: str
    figures: ConceptFigures

    def __post_init__(self) -> None:
        object.__setattr__(self, "subject", control_name(self.subject))  # of older files


@dataclass(frozen=True)
class RowResult:
    """One row: what was done, at what budget, and what came of it.

    `budget` is everything the attacker may spend, `cost` counts passes and pictures of one run on one
    subject. `status` is "done" or, with `note` saying why, "skipped"; `moot`: as there was nothing for it to
    try, so that the verdict lacks nothing.
    """

    id: str
    kind: str
    title: str
    about: str
    status: Literal["done", "skipped"]
    note: str
    budget: dict[str, Any]
    cost: dict[str, int]
    evaluated: list[Evaluated] = field(default_factory=list)
    curves: list[Curve] = field(default_factory=list)
    found: list[Found] = field(default_factory=list)
    sooner: RelearningAdvantage | None = None
    excess: list[LeakageGap] = field(default_factory=list)
    files: list[str] = field(default_factory=list)
    sweep: Swept | None = None
    moot: bool = False

    @property
    def control(self) -> str:
        """What the row's curves are held against: "novel" where that was run, else "gold"."""
        return NOVEL if self.of(NOVEL) else GOLD

    def of(self, subject: str) -> list[Curve]:
        """The curves of a subject."""
        return [curve for curve in self.curves if curve.subject == subject]

    def finding(self, subject: str) -> Found | None:
        """What was found on a subject, None where it was not attacked."""
        return next((found for found in self.found if found.subject == subject), None)


@dataclass(frozen=True)
class Ruling:
    """The verdict: a word, a sentence for anyone, reasons with figures, what it cannot say, bounds.

    `deciding` are the one or two of the reasons that decided it, or that left it open; they stand first among
    them. Audits of older versions have none.
    """

    word: str
    sentence: str
    reasons: list[str]
    limits: list[str]
    bounds: dict[str, float]
    deciding: list[str] = field(default_factory=list)

    @property
    def others(self) -> list[str]:
        """The reasons that did not decide."""
        return [reason for reason in self.reasons if reason not in self.deciding]


@dataclass(frozen=True)
class Subject:
    """A model of the audit."""

    source: str
    fingerprint: str


@dataclass(frozen=True)
class Novel:
    """A concept that the model does not know, in gold's place: what it is, and what its strength is held to.

    `full` is how often the judge finds it in the attacker's own pictures (`source`), which counts as all of
    it; `floor` how often in pictures of its anchor; `start` what the model shows of it before any attack.
    """

    name: str
    kind: str
    anchor: str
    source: str
    full: Rate
    floor: Rate
    start: Estimate


@dataclass(frozen=True)
class Audit:
    """Everything an audit found, with all that is needed to do it again.

    `times` (seconds a row, and "total") and `record` (versions, when) differ from run to run; the rest does
    not: `compared` is the JSON without them. `samples`, one dict a picture, are written by `write_samples`.
    """

    model: Subject
    base: Subject
    gold: Subject | None
    concept: dict[str, Any]
    judges: list[JudgeFacts]
    suite: dict[str, Any]
    seed: int
    frozen: int
    rows: list[RowResult]
    verdict: Ruling
    notes: list[str]
    record: dict[str, Any]
    times: dict[str, float]
    format: str = FORMAT
    novel: Novel | None = None
    samples: list[dict[str, Any]] = field(default_factory=list, compare=False, repr=False)

    @property
    def exit_code(self) -> int:
        """0 erased, or suppressed on prompts; 1 not erased, hidden or destroyed; 3 could not tell."""
        return {"erased": 0, "suppressed on prompts": 0, "inconclusive": 3, "not checked": 3}.get(
            self.verdict.word, 1
        )

    def row(self, key: str) -> RowResult:
        """The row of that id; KeyError where there is none."""
        for row in self.rows:
            if row.id == key:
                return row
        raise KeyError(f"no row {key!r}; there are {', '.join(row.id for row in self.rows)}")

    def to_dict(self) -> dict[str, Any]:
        """Plain data without the samples, as it goes to JSON."""
        content = asdict(self)
        del content["samples"]
        return content

    def compared(self) -> dict[str, Any]:
        """What two runs of the same audit have in common: all but times and record."""
        return {key: value for key, value in self.to_dict().items() if key not in ("times", "record")}

    def to_json(self) -> str:
        """Indented JSON, read back by `from_json`."""
        return json.dumps(self.to_dict(), indent=1, ensure_ascii=False, allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> Audit:
        """The audit that `to_json` wrote; UserError for anything else."""
        return read_json(cls, text, what="audit", version=FORMAT, expected="what `oubliette audit` writes")

    @classmethod
    def read(cls, path: Path | str) -> Audit:
        """The audit in an `audit.json`, or in the folder that holds one."""
        path = Path(path)
        path = path / JSON_NAME if path.is_dir() else path
        try:
            return cls.from_json(path.read_text("utf-8"))
        except OSError as error:
            raise UserError(f"audit {path}: cannot be read ({error.strerror or error})") from error

    def write(self, path: Path | str) -> None:
        """Write the JSON atomically."""
        write_bytes(Path(path), (self.to_json() + "\n").encode())

    def write_samples(self, path: Path | str) -> None:
        """Write one JSON line a picture, atomically: row, subject, run, step, prompt, seed, hit."""
        lines = [json.dumps(sample, ensure_ascii=False) for sample in self.samples]
        write_bytes(Path(path), "".join(line + "\n" for line in lines).encode())


def usable(curve: Curve) -> list[Reading]:
    """The readings that count: leakage is defined, and the attack has not broken the model."""
    return [reading for reading in curve.readings if reading.leakage is not None and not reading.broken]
