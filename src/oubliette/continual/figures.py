"""What a run over tasks came to: accuracy on every task after every task, and the field's summaries of it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from oubliette.backends.classifier import ClassifierBackend
from oubliette.continual.tasks import Tasks

__all__ = ["accuracies", "summary"]

_BATCH = 256


@torch.no_grad()
def accuracies(model: ClassifierBackend, tasks: Tasks) -> tuple[list[float], list[float]]:
    """The share of each task's test pictures that are right among all classes (Class-IL), and among the
    task's own (Task-IL: the task is told).
    """
    among_all, among_own = [], []
    for task in range(tasks.count):
        part = tasks.only(tasks.test, task)
        logits = torch.cat([model.logits(some) for some in part.pictures.split(_BATCH)]).cpu()
        first = task * tasks.each
        own = logits[:, first : first + tasks.each].argmax(-1) + first
        among_all.append(float((logits.argmax(-1) == part.labels).float().mean()))
        among_own.append(float((own == part.labels).float().mean()))
    return among_all, among_own


def summary(rows: Sequence[Sequence[float]]) -> dict[str, float]:
    """Figures of accuracies a[t][i] on task i after task t, whose first row is the untrained model's.

    `accuracy` is the mean of the last row; `bwt` the mean of a[T][i] - a[i][i] over the tasks before the
    last; `forgetting` that of max_t a[t][i] - a[T][i], t from i on; `fwt` the mean of a[i-1][i] - a[0][i]
    over the tasks after the first (Lopez-Paz and Ranzato 2017; Chaudhry et al. 2018). One task has an
    accuracy alone.
    """
    table = np.asarray(rows, dtype=np.float64)
    count = table.shape[1]
    last = table[count]
    found = {"accuracy": float(last.mean())}
    if count > 1:
        before, after = range(count - 1), range(1, count)
        found["bwt"] = float(np.mean([last[i] - table[i + 1, i] for i in before]))
        found["forgetting"] = float(np.mean([table[i + 1 :, i].max() - last[i] for i in before]))
        found["fwt"] = float(np.mean([table[i, i] - table[0, i] for i in after]))
    return found
