"""What a page is made of: plain dataclasses that go to `report.json` and come back equal."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from oubliette.core.errors import UserError
from oubliette.core.json_io import read_json
from oubliette.eval.grids import Grid
from oubliette.eval.result import Evaluation

FORMAT = "oubliette-report/1"


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
