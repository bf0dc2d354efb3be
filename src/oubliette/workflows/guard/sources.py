"""What is illegal and what innocent, opened for a model of either modality."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from oubliette.workflows.modality import modality_of
from oubliette.workflows.user_data import Opened, Source, read_source

__all__ = ["Opened", "Source", "open_all", "open_source", "read_source"]


def open_source(
    model: Any,
    source: Source,
    *,
    count: int,
    seed: int = 0,
    kind: str | None = None,
    identifier: str | None = None,
) -> Opened:
    """The source's rows for this model, the first `count` of them.

    Pictures come from a folder or parquet file, or are painted by the model's world with `seed`; questions
    from JSONL. `identifier` captions pictures as DreamBooth does. UserError for what cannot be read, holds
    nothing, or is no concept of the world.
    """
    return modality_of(model).user_data(model, source, count, seed, kind, identifier)


def open_all(
    model: Any, texts: Iterable[str], *, count: int, seed: int = 0, kind: str | None = None
) -> Sequence[Opened]:
    """Every source of a side, in order."""
    return [open_source(model, read_source(text), count=count, seed=seed, kind=kind) for text in texts]
