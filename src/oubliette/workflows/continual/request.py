"""One request of a stream, as a file has it."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from oubliette.core.validation import MAX_SEED, StrictModel
from oubliette.data.questions import QA

__all__ = ["Recorded", "StreamRequest"]


class StreamRequest(StrictModel):
    """One request: what `oubliette erase` takes for one, under the same names; left out, the command's own.

    `set` overrides keys of its recipe ("train.steps=50"), after the command's own overrides. `id` names it.
    """

    id: str | None = Field(default=None, min_length=1)
    concept: str | list[str] = Field(default_factory=list)
    anchor: str | list[str] | None = None
    kind: str | list[str] | None = None
    method: str | None = None
    scope: str | None = None
    surgery: str | dict[str, Any] | None = None
    smoother: str | dict[str, Any] | None = None
    seed: int | None = Field(default=None, ge=0, le=MAX_SEED)
    steps: int | None = Field(default=None, ge=1)
    prompts: str | None = None
    retain: str | None = None
    forget: str | None = None
    data: str | None = None
    freeze: str | list[str] | None = None
    set: list[str] = Field(default_factory=list)

    def options(self) -> dict[str, Any]:
        """What of an `Order` it says."""
        return self.model_dump(exclude_none=True, include=_ORDERED)


class Recorded(StreamRequest):
    """A request that is its records: `rows` to forget, `asked` to be asked afterwards in their place."""

    rows: tuple[QA, ...]
    asked: tuple[QA, ...] = ()


_ORDERED = set(StreamRequest.model_fields) - {"id", "set"}
