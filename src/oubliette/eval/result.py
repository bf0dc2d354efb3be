"""The outcome of an evaluation: plain dataclasses that go to JSON and come back equal."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from oubliette.core.json_io import read_json
from oubliette.core.writing import write_bytes
from oubliette.eval.leakage import Leakage
from oubliette.eval.metric import Figure
from oubliette.eval.pictures.clip_agreement import Agreement
from oubliette.eval.pictures.cmmd import Cmmd
from oubliette.eval.pictures.fidelity import Kid, PairedDistance
from oubliette.eval.rows import control_name
from oubliette.eval.statistics import Estimate, Rate
from oubliette.eval.utility import Utility
from oubliette.eval.verdict import Bounds, Verdict, exit_code

FORMAT = "oubliette-evaluation/1"


@dataclass(frozen=True)
class ClipFigures:
    """CLIP's view of a concept's prompts: score, share where the target beats the anchor, zero-shot share;
    and the base's.
    """

    model: str
    split: str
    score: Estimate
    accuracy: Rate
    zero_shot: Rate
    base_score: Estimate
    base_accuracy: Rate
    base_zero_shot: Rate


@dataclass(frozen=True)
class ConceptFigures:
    """All figures of one row on one erased concept; `judge` is the deciding one, None where no judge covers
    it.
    """

    name: str
    anchor: str
    kind: str
    near: str | None
    judge: str | None
    leakage: list[Leakage]
    utility: Utility | None
    clip: list[ClipFigures]
    verdict: Verdict

    def leakage_of(self, split: str, judge: str | None = None) -> Leakage | None:
        """The leakage on a split by a judge, by default the deciding one; None where it was not measured."""
        wanted = judge or self.judge
        return next((f for f in self.leakage if f.split == split and f.judge == wanted), None)


@dataclass(frozen=True)
class Fidelity:
    """How far the pictures of what must be kept moved; None where nothing could measure it.

    `kid` and `cmmd` against fresh seeds of the base, so that the base's own row shows what two draws differ
    by; `distance` to the base on the same seeds; `prompt_score` the CLIP score of pictures with their own
    prompts.
    """

    kid: Kid | None
    distance: PairedDistance | None
    prompt_score: Estimate | None
    cmmd: Cmmd | None = None


@dataclass(frozen=True)
class Row:
    """One model or control: role "model" or "control", its hash, its figures and the seconds they took."""

    name: str
    role: str
    fingerprint: str
    concepts: list[ConceptFigures]
    fidelity: Fidelity
    seconds: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", control_name(self.name))  # of older files


@dataclass(frozen=True)
class JudgeFacts:
    """Which judge it was."""

    name: str
    fingerprint: str
    threshold: float | None


@dataclass(frozen=True)
class Settings:
    """What was drawn and how."""

    n: int
    each: int
    near_n: int
    seed: int
    steps: int
    guidance: float
    sampler: str
    prompts_csv: str | None
    retained: dict[str, list[str]]
    prompting: dict[str, Any] | None = None
    """How questions were put, where that is not usual."""


@dataclass(frozen=True)
class Evaluation:
    """Rows of figures on one base, with everything needed to draw them again.

    `rows` begins with the models under test; controls follow. `complaints` names controls that a figure
    misordered: a metric that does so is broken. `agreement` says of each concept whether CLIP sorts the
    pictures as the deciding judge does. `metrics` are further figures, row by row, with their items' values
    (left out of the JSON where there are none). `samples` (one dict a picture) is not part of the JSON;
    `write_samples` writes it.
    """

    base: str
    base_fingerprint: str
    rows: list[Row]
    judges: list[JudgeFacts]
    settings: Settings
    bounds: Bounds
    complaints: list[str]
    notes: list[str]
    record: dict[str, Any]
    seconds: float
    format: str = FORMAT
    samples: list[dict[str, Any]] = field(default_factory=list, compare=False, repr=False)
    agreement: list[Agreement] = field(default_factory=list)
    metrics: list[Figure] = field(default_factory=list)

    @property
    def models(self) -> list[Row]:
        """The rows of the models under test."""
        return [row for row in self.rows if row.role == "model"]

    def row(self, name: str) -> Row:
        """The row of that name; KeyError where there is none."""
        for row in self.rows:
            if row.name == control_name(name):
                return row
        raise KeyError(f"no row {name!r}; there are {', '.join(row.name for row in self.rows)}")

    @property
    def verdicts(self) -> list[Verdict]:
        """The verdicts on the models under test, concept by concept."""
        return [figures.verdict for row in self.models for figures in row.concepts]

    @property
    def exit_code(self) -> int:
        """0 where every model passed on every concept, 1 where one failed, 3 where it could not be told."""
        return exit_code(self.verdicts)

    def to_dict(self) -> dict[str, Any]:
        """Plain data without the samples, as it goes to JSON."""
        content = asdict(self)
        del content["samples"]
        if not self.metrics:
            del content["metrics"]
        return content

    def to_json(self) -> str:
        """Indented JSON, read back by `from_json`."""
        return json.dumps(self.to_dict(), indent=2, ensure_ascii=False, allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> Evaluation:
        """The evaluation that `to_json` wrote; UserError for anything else."""
        return read_json(
            cls, text, what="evaluation", version=FORMAT, expected="what `oubliette eval` writes"
        )

    def write(self, path: Path | str) -> None:
        """Write the JSON atomically."""
        write_bytes(Path(path), (self.to_json() + "\n").encode())

    def write_samples(self, path: Path | str) -> None:
        """Write one JSON line a picture and row, atomically: prompt, seed, picture key, each judge's word."""
        lines = [json.dumps(sample, ensure_ascii=False) for sample in self.samples]
        write_bytes(Path(path), "".join(line + "\n" for line in lines).encode())
