"""What a user wants erased, and how that is run: one record each for commands, Python and workflows."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from oubliette.core.errors import UserError

if TYPE_CHECKING:
    from oubliette.eval.verdict import Bounds

__all__ = ["Job", "Order"]


@dataclass(frozen=True)
class Order:
    """What is to be erased, and what of the preset is to differ; `compose.compose` makes the recipe of it.

    `anchor` and `kind` are one for all concepts or one for each; left out, the world knows them. `method` is
    a method or a preset, `preset` a preset of exactly that name. `prompts` is a CSV of prompt pairs, `data` a
    folder of anchor pictures. `retain` is what must stay: prompts (a list, or a text file of one a line) for
    pictures, a JSONL file for language, where `forget` is the other. `policy` decides in a stream.
    `overrides` ("train.steps=50") come last.
    """

    concept: str | Sequence[str] = ()
    anchor: str | Sequence[str] | None = None
    kind: str | Sequence[str] | None = None
    method: str | None = None
    preset: str | None = None
    scope: str | None = None
    surgery: str | Mapping[str, Any] | None = None
    smoother: str | Mapping[str, Any] | None = None
    policy: str | None = None
    seed: int | None = None
    steps: int | None = None
    prompts: Path | str | None = None
    retain: Path | str | Sequence[str] | None = None
    forget: Path | str | None = None
    data: Path | str | None = None
    freeze: Path | str | Sequence[str] | None = None
    save: str | None = None
    overrides: Iterable[str] = ()


@dataclass(frozen=True)
class Job:
    """Where an erasure's result goes, and how it is looked at.

    `check` is one of auto, on, off; `require_leakage` holds the verdict against that bound, and makes "auto"
    "on". While a job runs, checkpoints and the log lie in a folder `OUT.unfinished` beside `out`; `resume`
    goes on from there (from kept pictures, a checkpoint or the start). `command` is what the page says it was
    made with.
    """

    out: Path | str | None = None
    check: str = "auto"
    judges: Sequence[str] = ()
    require_leakage: float | None = None
    report: bool = True
    resume: bool = False
    command: str | None = None
    show_progress: bool = True

    @property
    def mode(self) -> str:
        """The check's mode, "on" where a leakage is required; UserError for what does not go together."""
        from oubliette.workflows.check import check_mode

        check_mode(self.check)
        required = self.require_leakage
        if required is None:
            return self.check
        if not 0 < required <= 1:
            raise UserError(f"--require-leakage must lie in 0..1 (0.1 is 10 %), found {required:g}")
        if self.check == "off":
            raise UserError("--require-leakage needs a check: leave out --check off")
        return "on"

    @property
    def bounds(self) -> Bounds | None:
        """The bounds with the leakage that is required; None, the usual ones, where none is."""
        from oubliette.eval.verdict import Bounds

        return None if self.require_leakage is None else Bounds(leakage=self.require_leakage)
