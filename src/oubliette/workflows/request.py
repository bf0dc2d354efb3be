"""What a user names to have a model measured or attacked, as one record for commands, API and workflows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from oubliette.core.errors import UserError
from oubliette.data.hub_rows import named_on_hub

if TYPE_CHECKING:
    from oubliette.backends.prompting import Prompting
    from oubliette.data.concept import Concept
    from oubliette.eval.judge import Judge

__all__ = ["Request"]

NOVEL = "novel"


@dataclass(frozen=True)
class Request:
    """A model, what it was made from, and what was to be forgotten.

    `model`, `base` and `gold` are backends or anything `oubliette.load` opens; base and what was to be
    forgotten are by default those of the model's record. Of a model that draws that is a `concept` (with
    `anchor` and `kind`), of one that answers the rows of the file `forget`, beside those of `retain` and
    of `other` matters. `gold` never knew it ("none" leaves out the one that is known; "novel" puts in its
    place a concept that the model does not know: `novel`, with pictures `novel_data`). `mask` holds names
    of tensors that no attack may move, or is a file of them; `data` and `benign` are an attacker's own
    pictures or rows. `metrics` are further figures by name, and `rows` files of further
    sets for them. Questions are put as `prompting` says, by default as the record does. UserError for what
    does not go together, and for a path that is not there.
    """

    model: Any
    base: Any = None
    concept: str | Sequence[str] | Concept | None = None
    anchor: str | None = None
    kind: str | None = None
    forget: Path | str | None = None
    retain: Path | str | None = None
    other: Path | str | None = None
    gold: Any = None
    mask: Path | str | Sequence[str] | None = None
    data: Path | str | None = None
    benign: Path | str | None = None
    judges: Sequence[Judge | str] | None = None
    cache: Path | str | None = None
    seed: int = 0
    novel: str | None = None
    novel_data: Path | str | None = None
    prompts_csv: Path | str | None = None
    metrics: Sequence[str] = ()
    rows: Mapping[str, Path | str] = field(default_factory=dict)
    prompting: Prompting | None = None

    def __post_init__(self) -> None:
        for path, what in ((self.novel, "--novel"), (self.novel_data, "--novel-data")):
            if path is not None and not self.stands_in:
                raise UserError(f"{what} {path}: goes with --gold novel alone")
        for path, what in (
            (self.data, "--data"),
            (self.benign, "--benign"),
            (self.novel_data, "--novel-data"),
        ):
            if path is not None and not Path(path).exists():
                raise UserError(f"{what} {path}: no such folder or file of pictures")
        sets = [(self.forget, "--forget"), (self.retain, "--retain"), (self.other, "--other")]
        for path, what in (*sets, *((path, f"--rows {name}") for name, path in self.rows.items())):
            if path is not None and not Path(path).is_file() and not named_on_hub(path):
                raise UserError(f"{what} {path}: no such file of questions and answers")

    @property
    def stands_in(self) -> bool:
        """Whether a novel concept takes gold's place."""
        return isinstance(self.gold, str) and self.gold == NOVEL
