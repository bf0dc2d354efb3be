"""A labelled set of pictures as tasks: so many of so many classes each, in the classes' order."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from oubliette.core.errors import UserError
from oubliette.data.labelled import LabelledSet

__all__ = ["Pictures", "Tasks", "parse_tasks"]


@dataclass(frozen=True)
class Pictures:
    """Pictures uint8 (n, side, side, 3) with class numbers (n,); their likelihoods for `fisher_diag`."""

    pictures: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def some(self, count: int, rng: torch.Generator) -> Pictures:
        """At most `count` of them, drawn without replacement."""
        chosen = torch.randperm(len(self), generator=rng)[:count]
        return Pictures(self.pictures[chosen], self.labels[chosen])

    def log_likelihood(self, model: object, index: int) -> Tensor:
        """log p(label | picture)."""
        logits: Tensor = model.logits(self.pictures[index : index + 1])  # type: ignore[attr-defined]
        return logits.log_softmax(-1)[0, self.labels[index]]


@dataclass(frozen=True)
class Tasks:
    """Task t has the classes t * `each` to (t + 1) * `each` - 1, of `count` tasks."""

    count: int
    each: int
    classes: tuple[str, ...]
    train: Pictures
    test: Pictures

    @classmethod
    def of(cls, data: LabelledSet, tasks: str, *, train: int | None = None, test: int | None = None) -> Tasks:
        """The first `train` and `test` pictures of each class (all by default), dealt to tasks as "5x2".

        UserError where the tasks do not use every class exactly once.
        """
        count, each = parse_tasks(tasks)
        if count * each != len(data.classes):
            raise UserError(
                f"tasks {tasks}: {count} tasks of {each} classes are {count * each}, the data has "
                f"{len(data.classes)} ({', '.join(data.classes[:5])}...); {_ways(len(data.classes))}"
            )
        return cls(
            count,
            each,
            data.classes,
            _first(data.pictures, data.labels, train),
            _first(data.test_pictures, data.test_labels, test),
        )

    def rows(self, part: Pictures, task: int) -> Tensor:
        """Numbers of the rows of `part` that are of a task."""
        return torch.nonzero(part.labels // self.each == task).flatten()

    def only(self, part: Pictures, task: int) -> Pictures:
        """The task's rows."""
        rows = self.rows(part, task)
        return Pictures(part.pictures[rows], part.labels[rows])


def parse_tasks(text: str) -> tuple[int, int]:
    """(5, 2) from "5x2"; UserError for anything else."""
    found = re.fullmatch(r"(\d+)x(\d+)", text.strip())
    made = (int(found[1]), int(found[2])) if found else (0, 0)
    if min(made) < 1:
        raise UserError(f"tasks: expected TASKSxCLASSES, as in 5x2; found '{text}'")
    return made


def _ways(classes: int) -> str:
    ways = [f"{classes // each}x{each}" for each in range(1, classes) if classes % each == 0]
    return f"possible: {', '.join(ways)}"


def _first(pictures: np.ndarray, labels: np.ndarray, most: int | None) -> Pictures:
    """The first of each class, in their order."""
    if most is not None:
        rank = np.zeros(len(labels), dtype=np.int64)
        for label in np.unique(labels):
            own = labels == label
            rank[own] = np.arange(own.sum())
        pictures, labels = pictures[rank < most], labels[rank < most]
    return Pictures(torch.from_numpy(np.ascontiguousarray(pictures)), torch.from_numpy(labels))
