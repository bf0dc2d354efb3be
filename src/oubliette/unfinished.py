"""The folder that a run keeps its checkpoints in while it is under way."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from oubliette.errors import UserError
from oubliette.writing import make_parents, remove_empty, writing

if TYPE_CHECKING:
    from oubliette.recipe import Recipe

__all__ = ["Unfinished", "is_main", "with_checkpoints"]

_CHECKPOINTS = 10


class Unfinished:
    """The folder of a run that is under way; left where it is if the run is cut short and `worth` something.

    By default that is a run with a checkpoint.
    """

    def __init__(self, target: Path, *, resume: bool, worth: Callable[[Path], bool] | None = None) -> None:
        self._worth = worth or _has_checkpoint
        self.folder = target.with_name(f"{target.name}.unfinished")
        there = self.folder.exists()
        if there and not resume and is_main():
            raise UserError(
                f"{self.folder}: a run for {target} was cut short; --resume goes on with it, "
                "or remove the folder to start again"
            )
        if resume and not there:
            raise UserError(f"{self.folder}: not there, so there is no run for {target} to resume")
        self._target, self._made = target, list[Path]()

    def __enter__(self) -> None:
        self._made = make_parents(self._target)
        with writing(self.folder):
            self.folder.mkdir(exist_ok=True)

    def __exit__(self, kind: Any, *_: Any) -> None:
        if kind is not None and self._worth(self.folder):
            return
        if not is_main():
            return
        shutil.rmtree(self.folder, ignore_errors=True)
        remove_empty(self._made)


def with_checkpoints(recipe: Recipe) -> Recipe:
    """The recipe, with a checkpoint now and then where it asks for none (the weights stay the same)."""
    if recipe.train.checkpoint_every:
        return recipe
    every = max(1, recipe.train.steps // _CHECKPOINTS)
    return recipe.model_copy(update={"train": recipe.train.model_copy(update={"checkpoint_every": every})})


def _has_checkpoint(folder: Path) -> bool:
    from oubliette.train.checkpoint import has_checkpoint

    return has_checkpoint(folder / "checkpoint")


def is_main() -> bool:
    """Whether this is the process that writes, of those that a launcher started (before torch is loaded)."""
    return os.environ.get("RANK", "0") == "0"
