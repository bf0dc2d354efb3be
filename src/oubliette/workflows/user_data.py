"""What a guard's user fine-tunes on, by name: a folder of pictures, a file of questions, a known concept."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from oubliette.core.errors import UserError
from oubliette.data.text import check_text

if TYPE_CHECKING:
    from oubliette.data.concept import Concept
    from oubliette.eval.judge import Judge
    from oubliette.eval.plan import PromptSet
    from oubliette.eval.sample_store import How
    from oubliette.train.finetune import SupervisedData

__all__ = ["Lesson", "Opened", "Source", "Teaching", "read_source"]


@dataclass(frozen=True)
class Source:
    """One set of data as a user names it: "FOLDER", "NAME=FOLDER", or a concept of the model's world.

    `name` is what pictures without a caption are captioned with.
    """

    text: str
    name: str
    path: Path | None


@dataclass(frozen=True)
class Opened:
    """Data ready to be trained on, with what a record says of it: where from, how many rows, their hash."""

    data: SupervisedData
    facts: dict[str, Any]
    skipped: tuple[tuple[str, str], ...] = ()


def read_source(text: str) -> Source:
    """The source a user wrote; UserError for an empty one and a folder that is not there."""
    name, sign, place = text.partition("=")
    if not sign:
        place, name = text, ""
    if not text.strip() or (sign and not (name.strip() and place.strip())):
        raise UserError(f"data {text!r}: expected a folder, NAME=FOLDER, or a concept of the model's world")
    check_text(text, "data")
    path = Path(place)
    if _there(path):
        return Source(text, name.strip() or path.stem.replace("_", " ").replace("-", " "), path)
    if sign or "/" in place:
        raise UserError(f"data {text!r}: no such folder or file: {place!r}")
    return Source(text, text.strip(), None)


def _there(path: Path) -> bool:
    """Whether a path exists; a concept's name that no file could have is none."""
    try:
        return path.exists()
    except OSError:
        return False


@dataclass(frozen=True)
class Teaching:
    """What of a source a guard's user is taught and asked: `count` rows drawn with `data_seed` to be taught,
    and `n` asked with `seed`, in `how`'s way.

    `judge` says what is found, None where that comes with the rows; `kind` is the concept's, where the source
    is a concept or a folder of one.
    """

    source: Source
    judge: Judge | None
    count: int
    n: int
    how: How
    seed: int = 0
    data_seed: int = 0
    kind: str | None = None


@dataclass(frozen=True)
class Lesson:
    """What a guard's user is taught (`data`) and what is then asked: prompts and seeds, in `how`'s way, of a
    `concept` that `judge` finds.
    """

    concept: Concept
    data: SupervisedData
    asked: PromptSet
    judge: Judge
    how: How

    def shortened(self, n: int) -> Lesson:
        """The same with the first `n` questions."""
        asked = replace(self.asked, prompts=self.asked.prompts[:n], seeds=self.asked.seeds[:n])
        return replace(self, asked=asked)
