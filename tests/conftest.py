"""Fixtures shared by every room's tests: one tiny random pipeline, in memory and as a folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from forked import Forks


@pytest.fixture(autouse=True, scope="session")
def _few_threads() -> None:
    """One thread: tiny models are slower on more, and bit-for-bit comparisons need the same order of sums."""
    import torch

    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def tiny_pipeline() -> Any:
    """A tiny random StableDiffusionPipeline, shared: do not change its weights (use `tiny_folder` for
    that).
    """
    import tiny

    return tiny.pipeline()


@pytest.fixture(scope="session")
def tiny_folder(tiny_pipeline: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder `tiny_pipeline` was saved to; read only."""
    import tiny

    return tiny.save(tiny_pipeline, tmp_path_factory.mktemp("tiny") / "pipeline")


@pytest.fixture(scope="session")
def facts_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `base`, a tiny language model that knows invented facts, `gold`, its twin that never knew
    those to be forgotten, and the rows, `forget.jsonl` and `retain.jsonl`; read only. Made once, where asked.
    """
    import tiny_facts

    return tiny_facts.make(tmp_path_factory.mktemp("facts"))


@pytest.fixture(scope="session")
def forks() -> Iterator[Forks]:
    """The command line in forks of a process that has imported everything."""
    made = Forks()
    yield made
    made.close()
