"""What a page is made of: plain dataclasses that go to `report.json` and come back equal."""

from __future__ import annotations

import base64
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from oubliette.core.errors import UserError
from oubliette.core.json_io import read_json
from oubliette.data.png import encode_png
from oubliette.eval.result import Evaluation
from oubliette.eval.rows import control_name

FORMAT = "oubliette-report/1"


@dataclass(frozen=True)
class Picture:
    """A PNG in base64 or, of a model that answers, a `text`; and whether the deciding judge found the line's
    concept in it (None: not judged).
    """

    png: str
    found: bool | None = None
    text: str = ""

    @classmethod
    def of(cls, sample: np.ndarray | str, found: bool | None = None) -> Picture:
        """A picture, uint8 (H, W, 3), or an answer."""
        if isinstance(sample, str):
            return cls("", found, sample)
        return cls(base64.b64encode(encode_png(sample)).decode("ascii"), found)


@dataclass(frozen=True)
class Line:
    """One prompt and seed drawn by every column of a grid."""

    prompt: str
    seed: int
    pictures: list[Picture]


@dataclass(frozen=True)
class Grid:
    """Same-seed pictures side by side: `columns` name the models, each line holds one picture a column.

    `group` puts grids of one concept under one heading; `bad` says that finding the concept is what should
    not be.
    """

    group: str
    title: str
    columns: list[str]
    lines: list[Line]
    bad: bool

    def __post_init__(self) -> None:
        object.__setattr__(self, "columns", [control_name(name) for name in self.columns])  # of older files


@dataclass(frozen=True)
class Curve:
    """A role's loss over the steps of a run."""

    run: str
    role: str
    steps: list[int]
    values: list[float]


@dataclass(frozen=True)
class Run:
    """How a model came about: `seconds` by phase, its recipe as YAML, the code that loads it, and further
    facts.
    """

    name: str
    method: str
    summary: str
    recipe: str
    load: str
    seconds: dict[str, float] = field(default_factory=dict)
    facts: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class ReportData:
    """Everything on the page; `world` is the embedded world's name, which brings the words on what it can
    show.
    """

    title: str
    evaluation: Evaluation
    grids: list[Grid] = field(default_factory=list)
    curves: list[Curve] = field(default_factory=list)
    runs: list[Run] = field(default_factory=list)
    world: str | None = None
    command: str | None = None
    format: str = FORMAT

    def to_dict(self) -> dict[str, Any]:
        """Plain data, as it goes to JSON."""
        content = asdict(self)
        content["evaluation"] = self.evaluation.to_dict()
        return content

    def to_json(self) -> str:
        """JSON, read back by `from_json`."""
        return json.dumps(self.to_dict(), indent=1, ensure_ascii=False, allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> ReportData:
        """The data that `to_json` wrote; UserError for anything else."""
        return read_json(cls, text, what="report", version=FORMAT, expected="a report.json")

    @classmethod
    def read(cls, path: Path | str) -> ReportData:
        """The data in a `report.json`."""
        try:
            return cls.from_json(Path(path).read_text("utf-8"))
        except OSError as error:
            raise UserError(f"report {path}: cannot be read ({error.strerror or error})") from error
