"""Task after task with one method: the loop on each, what is remembered at its end, and what it came to."""

from __future__ import annotations

import hashlib
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import Field
from torch import Tensor

from oubliette.backends.classifier import ClassifierBackend
from oubliette.continual.buffer import Reservoir
from oubliette.continual.figures import accuracies, summary
from oubliette.continual.method import read_method
from oubliette.continual.objective import CURRENT, ContinualObjective
from oubliette.continual.tasks import Pictures, Tasks
from oubliette.core.validation import MAX_SEED, StrictModel, call_checked
from oubliette.data.labelled import LabelledSet
from oubliette.train.checkpoint import has_checkpoint, read_checkpoint, write_checkpoint
from oubliette.train.config import TrainConfig
from oubliette.train.fisher import Mode, fisher_diag
from oubliette.train.gradients import step_rng
from oubliette.train.loop import Loop
from oubliette.train.smoothing import NoSmoother, Refresh, Smoother
from oubliette.train.weights import Weights

__all__ = ["Outcome", "Settings", "learn"]

#: Rows on which the last gradient is measured, and what is added to F before it is inverted: ours.
_MEASURED, _DAMPING = 256, 1e-3
_DONE = "done"


class Settings(StrictModel):
    """A run: what is learned how, and on what share of the data.

    `refresh` has options of the smoother `refresh`; None is none. `train` and `test` are pictures of each
    class (None: all). A task takes epochs * rows / batch steps, each on rows drawn without replacement.
    `fisher_decay` is the share of the earlier Fisher that refresh keeps (the released code's tau).
    """

    tasks: str = "5x2"
    method: str = "der++"
    refresh: dict[str, Any] | None = None
    side: int = Field(default=32, ge=8, le=256)
    train: int | None = Field(default=None, ge=1)
    test: int | None = Field(default=None, ge=1)
    widths: list[int] = Field(default_factory=lambda: [16, 32, 64], min_length=1)
    epochs: float = Field(default=2, gt=0)
    batch: int = Field(default=32, ge=1)
    replay: int = Field(default=32, ge=1)
    buffer: int = Field(default=200, ge=0)
    learning_rate: float = Field(default=0.03, gt=0)
    weight_decay: float = Field(default=1e-4, ge=0)
    fisher: Mode = "weighted"
    fisher_rows: int = Field(default=200, ge=1)
    fisher_decay: float = Field(default=1e-5, ge=0, le=1)
    seed: int = Field(default=0, ge=0, le=MAX_SEED)

    def smoother(self) -> Smoother:
        """Refresh: in the released form by default on the current batch, in the paper's on the whole loss."""
        if self.refresh is None:
            return NoSmoother()
        on = CURRENT if self.refresh.get("form", "released") == "released" else "retain"
        return call_checked(Refresh, {"on": on, **self.refresh}, "refresh")


@dataclass(frozen=True)
class Outcome:
    """Accuracies a[t][i] after task t (first the untrained model's), their summaries, and the last gradient:
    `norm` is ||grad L||, `fisher_norm` that in (F + 1e-3)^-1, L the method's own loss on the last task.
    """

    class_il: list[list[float]]
    task_il: list[list[float]]
    loss: float
    norm: float
    fisher_norm: float
    steps: int
    seconds: float
    weights: str

    def figures(self) -> dict[str, float]:
        """Every number of it by name."""
        made = {
            f"{kind} {name}": value
            for kind, rows in (("class-il", self.class_il), ("task-il", self.task_il))
            for name, value in summary(rows).items()
        }
        return {**made, "loss": self.loss, "norm": self.norm, "fisher norm": self.fisher_norm}


class _Run:
    """One run under way: its parts, and the folder that it can be taken up from."""

    def __init__(self, settings: Settings, data: LabelledSet, folder: Path) -> None:
        self.settings, self.folder = settings, folder
        self.tasks = Tasks.of(data, settings.tasks, train=settings.train, test=settings.test)
        method = read_method(settings.method)
        buffer = Reservoir(settings.buffer, settings.seed) if method.replays and settings.buffer else None
        self.objective = ContinualObjective(method, self.tasks, buffer, settings.replay)
        self.model = ClassifierBackend(
            data.classes,
            data.side,
            widths=settings.widths,
            gaussian=method.is_bayesian,
            seed=settings.seed,
            device="cpu",
        )
        self.smoother = settings.smoother()
        self.class_il: list[list[float]] = []
        self.task_il: list[list[float]] = []
        self.done, self.steps, self.seconds = 0, 0, 0.0
        self.last: dict[str, float] = {}
        self._fisher = {name: torch.zeros_like(t, requires_grad=False) for name, t in self._tensors().items()}

    def _tensors(self) -> dict[str, Tensor]:
        return {name: tensor.detach() for name, tensor in self.model.tensors().items()}

    def take_up(self) -> None:
        """From where the folder stands, or the start."""
        self._hand_over()
        if not has_checkpoint(self.folder / _DONE):
            self._look()
            return
        tensors, facts = read_checkpoint(self.folder / _DONE)
        with torch.no_grad():
            for name, tensor in self.model.tensors().items():
                tensor.copy_(tensors[f"model.{name}"])
        self._fisher = {name: tensors[f"refresh.{name}"] for name in self._fisher}
        self._hand_over()
        own = "objective."
        self.objective.load_state({k.removeprefix(own): t for k, t in tensors.items() if k.startswith(own)})
        self.class_il, self.task_il = facts["class_il"], facts["task_il"]
        self.done, self.steps, self.seconds = facts["done"], facts["steps"], facts["seconds"]
        self.last = facts["last"]

    def one(self) -> None:
        """The next task, its end, and the note that it is done."""
        began, task = time.perf_counter(), self.done
        loop = self._loop(task)
        part = self.folder / f"task-{task}"
        if has_checkpoint(part):
            loop.load_checkpoint()
        loop.run()
        self.objective.settle()
        self.steps += loop.step
        if task == self.tasks.count - 1:
            self.last = self._measure(loop)
        self._end(task)
        self._look()
        self.done += 1
        self.seconds += time.perf_counter() - began
        self._note()
        shutil.rmtree(part, ignore_errors=True)

    def _loop(self, task: int) -> Loop:
        settings, rows = self.settings, len(self.tasks.rows(self.tasks.train, task))
        batch = min(settings.batch, rows)
        steps = max(1, round(settings.epochs * rows / batch))
        config = TrainConfig(
            steps=steps,
            batch=batch,
            learning_rate=settings.learning_rate,
            optimizer="sgd",
            betas=(0.0, 0.0),
            weight_decay=settings.weight_decay,
            log_every=max(1, steps // 10),
            checkpoint_every=max(1, steps // 2),
        )
        return Loop(
            self.model,
            self.objective,
            task,
            Weights(self.model.tensors()),
            config,
            smoother=self.smoother,
            seed=_seed(settings.seed, f"task {task}"),
            log=self.folder / "log" / f"task-{task}.jsonl",
            checkpoint=self.folder / f"task-{task}",
            show_progress=False,
        )

    def _end(self, task: int) -> None:
        """Remember weights and Fisher, and hand refresh its own."""
        memory, refreshes = self.objective.memory, isinstance(self.smoother, Refresh)
        fisher: dict[str, Tensor] | None = None
        if refreshes or (memory is not None and memory.needs_fisher):
            rng = step_rng(self.settings.seed, task, "fisher rows")
            some = self.tasks.only(self.tasks.train, task).some(self.settings.fisher_rows, rng)
            fisher = fisher_diag(self.model, some, self.settings.fisher)
            decay = self.settings.fisher_decay
            self._fisher = {name: decay * self._fisher[name] + part for name, part in fisher.items()}
        if memory is not None:
            memory.take(self._tensors(), fisher)
        self._hand_over()

    def _hand_over(self) -> None:
        if isinstance(self.smoother, Refresh):
            self.smoother.use_fisher(self._fisher)

    def _measure(self, loop: Loop) -> dict[str, float]:
        """The method's loss and its gradient on some of the last task's rows, plain and in F^-1."""
        draw = self.objective.draw(loop.step, step_rng(self.settings.seed, 0, "measured"), _MEASURED)
        named = self.model.tensors()
        total, slope = 0.0, [torch.zeros_like(tensor) for tensor in named.values()]
        for name, role in self.objective.roles(loop.step).items():
            loss = role.weight * self.objective.loss(name, draw)
            found = torch.autograd.grad(loss, list(named.values()), allow_unused=True)
            total += float(loss.detach())
            for held, part in zip(slope, found, strict=True):
                if part is not None:
                    held += part
        train, rows = self.tasks.train, self.tasks.rows(self.tasks.train, self.objective.task)[draw["places"]]
        items = Pictures(train.pictures[rows], train.labels[rows])
        fisher = fisher_diag(self.model, items, self.settings.fisher)
        inverse = [part.square() / (fisher[name] + _DAMPING) for name, part in zip(named, slope, strict=True)]
        return {
            "loss": total,
            "norm": float(torch.stack([part.square().sum() for part in slope]).sum().sqrt()),
            "fisher_norm": float(torch.stack([part.sum() for part in inverse]).sum().sqrt()),
        }

    def _look(self) -> None:
        among_all, among_own = accuracies(self.model, self.tasks)
        self.class_il.append(among_all)
        self.task_il.append(among_own)

    def _note(self) -> None:
        tensors = {f"model.{name}": tensor for name, tensor in self._tensors().items()}
        tensors |= {f"objective.{name}": tensor for name, tensor in self.objective.state().items()}
        tensors |= {f"refresh.{name}": tensor for name, tensor in self._fisher.items()}
        kept = ("done", "steps", "seconds", "class_il", "task_il", "last")
        write_checkpoint(self.folder / _DONE, tensors, {name: getattr(self, name) for name in kept})


def learn(
    settings: Settings,
    data: LabelledSet,
    folder: Path,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[Outcome, ClassifierBackend]:
    """Run every task that `folder` has not done yet; what it came to, and the model.

    The folder keeps what resuming needs: the end of the last task, and halves of one under way. The same
    settings and data end in the same bits, however often it was stopped. On the CPU. `progress` is told how
    many tasks are done, of how many. UserError for tasks that do not fit the classes, a replay without a
    buffer, and what the method and refresh refuse.
    """
    run = _Run(settings, data, folder)
    run.take_up()
    while run.done < run.tasks.count:
        run.one()
        if progress is not None:
            progress(run.done, run.tasks.count)
    found = Outcome(
        class_il=run.class_il,
        task_il=run.task_il,
        **run.last,
        steps=run.steps,
        seconds=run.seconds,
        weights=run.model.fingerprint(),
    )
    return found, run.model


def _seed(seed: int, part: str) -> int:
    digest = hashlib.sha256(f"{seed}/{part}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1
