"""What a prompt attack starts from and what it finds, the two rates made of it, and the field's CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from oubliette.core.errors import UserError
from oubliette.core.writing import parents, write_bytes
from oubliette.data.csv import COLUMNS, PromptRow, read_prompts

__all__ = ["Case", "Found", "Tally", "cases_of", "found_table", "read_found", "write_found"]

ORIGINAL, OPENING = "original_prompt", "opening"
_MORE = (ORIGINAL, "concept", "attack", "before", "after", "tries", "loss")
_MARKS = {"0": False, "1": True}


@dataclass(frozen=True)
class Case:
    """An original prompt that names the concept, and the seed it (and what is found for it) is drawn with.

    `wordings` are the same in other words, where they are known. Blanks around the prompt are dropped.
    Raises UserError for an empty prompt and a seed outside 0..2^63-1.
    """

    prompt: str
    seed: int
    wordings: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "prompt", self.prompt.strip())
        if not self.prompt:
            raise UserError("an attack's original prompt is empty; give one that names the concept")
        if not 0 <= self.seed < 2**63:
            raise UserError(f"seed of {self.prompt!r}: must lie in 0..2^63-1, found {self.seed}")


@dataclass(frozen=True)
class Found:
    """What came of one case.

    `before`: the original prompt already shows the concept (it is then not attacked, and `prompt` is the
    original). `after`: that, or the attack brought it back; `prompt` is the text that did, or the last one
    tried. `tries` counts the adversarial prompts that were drawn. `loss` is the search's own at that prompt,
    None where it has none. `opening` is how the answer was made to begin. `first` and `last` are what the
    model made of the original prompt and of `prompt`; they are not written.
    """

    case: Case
    prompt: str
    before: bool
    after: bool
    tries: int
    loss: float | None = None
    opening: str = ""
    first: Any = field(default=None, compare=False, repr=False)
    last: Any = field(default=None, compare=False, repr=False)

    @property
    def text(self) -> str:
        """The prompt, and how the answer was made to begin."""
        return f"{self.prompt} [{self.opening}]" if self.opening else self.prompt


@dataclass(frozen=True)
class Tally:
    """Counts of an attack: `n` cases, `before` that showed the concept unattacked, `after` with the attack's.

    pre-ASR = before / n and ASR = (before + successes on the rest) / n = after / n, as UnlearnDiffAtk (Zhang
    et al. 2024) and its benchmark have them. Counts, so that a caller makes its own intervals of them.
    """

    n: int
    before: int
    after: int

    @classmethod
    def of(cls, found: Iterable[Found]) -> Tally:
        """Count; a case that showed the concept before counts in both."""
        rows = list(found)
        return cls(len(rows), sum(row.before for row in rows), sum(row.before or row.after for row in rows))

    @property
    def pre_asr(self) -> float:
        """Share of original prompts that show the concept; ValueError without cases."""
        return self._share(self.before)

    @property
    def asr(self) -> float:
        """Share of prompts that show it, original or found; ValueError without cases."""
        return self._share(self.after)

    def _share(self, count: int) -> float:
        if not self.n:
            raise ValueError("a rate needs at least one case")
        return count / self.n


def cases_of(rows: Iterable[PromptRow]) -> list[Case]:
    """The rows of a prompt table as cases, each prompt with its own seed."""
    return [Case(row.prompt, row.seed) for row in rows]


def write_found(path: Path | str, found: Sequence[Found], *, attack: str, concept: str) -> Path:
    """Write what was found as the field's CSV (`found_table`), atomically (what was there is replaced);
    returns the path.

    Raises UserError where nothing was found to write or the path cannot be written.
    """
    path = Path(path)
    if not found:
        raise UserError(f"{path}: there are no cases to write")
    text = found_table(found, attack=attack, concept=concept)
    with parents(path):
        write_bytes(path, text.encode())
    return path


def found_table(found: Sequence[Found], *, attack: str, concept: str) -> str:
    """What was found as the field's CSV.

    `prompt` is the adversarial prompt and `evaluation_seed` the case's, so every tool that reads such a table
    draws the attack; `original_prompt`, `concept`, `attack`, `before`, `after` (0 or 1), `tries` and `loss`
    stand in further columns, and `opening` where answers were begun.
    """
    out = io.StringIO()
    table = csv.writer(out, lineterminator="\n")
    begun = any(row.opening for row in found)
    table.writerow([*COLUMNS, *_MORE, *([OPENING] if begun else [])])
    for number, row in enumerate(found):
        loss = "" if row.loss is None else repr(row.loss)
        marks = [int(row.before), int(row.after), row.tries, loss, *([row.opening] if begun else [])]
        table.writerow([number, row.prompt, row.case.seed, row.case.prompt, concept, attack, *marks])
    return out.getvalue()


def read_found(path: Path | str) -> list[Found]:
    """Read what `write_found` wrote; UserError for a column that is missing or holds something else.

    A table without these columns (another group's adversarial prompts) gives cases whose original prompt is
    the prompt itself, neither `before` nor `after`.
    """
    return [_found(path, row) for row in read_prompts(path)]


def _found(path: Path | str, row: PromptRow) -> Found:
    if ORIGINAL not in row.extra:
        return Found(Case(row.prompt, row.seed), row.prompt, False, False, 0)
    where = f"{path}, case {row.case}"
    tries = row.extra.get("tries", "0")
    loss = row.extra.get("loss", "")
    try:
        return Found(
            Case(row.extra[ORIGINAL], row.seed),
            row.prompt,
            _MARKS[row.extra.get("before", "0")],
            _MARKS[row.extra.get("after", "0")],
            int(tries),
            float(loss) if loss else None,
            row.extra.get(OPENING, ""),
        )
    except (KeyError, ValueError) as error:
        raise UserError(
            f"{where}: before and after must be 0 or 1, tries and loss numbers; found {error}"
        ) from None
