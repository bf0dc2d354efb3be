"""The unified loss of continual learning as an objective of the training loop, with a role for each term."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from oubliette.continual.bregman import divergence, generator
from oubliette.continual.buffer import Reservoir
from oubliette.continual.memory import WeightMemory
from oubliette.continual.method import Method, OutputTerm
from oubliette.continual.tasks import Tasks
from oubliette.core.errors import UserError
from oubliette.train.objective import BaseObjective
from oubliette.train.roles import Draw, Role

__all__ = ["ContinualObjective", "output_divergence"]

CURRENT, WEIGHTS = "current", "weights"


class ContinualObjective(BaseObjective):
    """L = CE + sum_k alpha_k D_k(h, z_k) + beta D_Psi(theta, theta_old) (arXiv 2403.13249), all roles retain.

    One object for all tasks, with a loop for each: `data` is the task's number. "current" is the
    cross-entropy of the batch, each output term a role of its name, "weights" the weight term; a term takes
    part once it has something to hold on to. A batch is drawn without replacement, a term's share of the
    buffer by itself (`replay` rows). After a step its rows enter the buffer, with the logits of its first
    evaluation. UserError for a method that replays and no buffer.
    """

    def __init__(self, method: Method, tasks: Tasks, buffer: Reservoir | None, replay: int = 32) -> None:
        if method.replays and buffer is None:
            raise UserError("this method replays from a buffer, and its size is 0; --buffer 200 would do")
        self.method, self.tasks, self.replay = method, tasks, replay
        self.buffer = buffer if method.replays else None
        self.memory = None if method.weights is None else WeightMemory(method.weights)
        self._terms = {term.name: term for term in method.output}
        self._pending: list[Draw] = []
        self._step = -1

    def setup(self, model: Any, data: int, weights: Any, seed: int) -> None:
        """Begin a task: its rows, and what the model says of them before it has seen any."""
        self._model, self.task = model, data
        self._rows = self.tasks.rows(self.tasks.train, data)
        self._pending, self._step = [], -1
        self._old: Tensor | None = None
        if data and any(term.target == "old" for term in self._terms.values()):
            with torch.no_grad():
                parts = [model.logits(self.tasks.train.pictures[some]) for some in self._rows.split(256)]
            self._old = torch.cat(parts)

    def roles(self, step: int) -> dict[str, Role]:
        """The cross-entropy, and the terms that have something to hold on to."""
        self._commit(step)
        found = {CURRENT: Role("retain")}
        for name, term in self._terms.items():
            replays = term.rows == "buffer" and self.buffer is not None and len(self.buffer) > 0
            knows = term.rows == "current" and (term.target != "old" or self._old is not None)
            if replays or knows:
                found[name] = Role("retain", weight=term.alpha)
        if self.memory and self.method.weights is not None:
            found[WEIGHTS] = Role("retain", weight=self.method.weights.beta)
        return found

    def draw(self, step: int, rng: torch.Generator, batch: int) -> Draw:
        """Rows of the task, places in the buffer for each term, and the seed of Gaussian weights."""
        self._commit(step)
        draw = Draw(places=torch.randperm(len(self._rows), generator=rng)[:batch])
        if self.buffer is not None and len(self.buffer):
            for name, term in self._terms.items():
                if term.rows == "buffer":
                    draw[name] = self.buffer.draw(rng, self.replay)
        if self.method.is_bayesian:
            draw["noise"] = int(torch.randint(2**62, (1,), generator=rng))
        if step > self._step:
            self._step = step
        self._pending.append(draw)
        return draw

    def loss(self, role: str, draw: Draw) -> Tensor:
        """The role's term without its weight."""
        if role == WEIGHTS:
            assert self.memory is not None
            return self.memory.divergence(self._model.tensors())
        if role == CURRENT:
            logits, labels = self._said(draw)
            draw.cache.setdefault("logits", logits.detach())
            return F.cross_entropy(logits, labels)
        term = self._terms[role]
        if term.rows == "current":
            logits, labels = self._said(draw)
            stored = None if self._old is None else self._old[draw["places"]]
        else:
            assert self.buffer is not None
            rows, stored = self.buffer.rows[draw[role]], self.buffer.logits[draw[role]]
            logits, labels = (
                self._model.logits(self.tasks.train.pictures[rows], draw.get("noise")),
                self._labels(rows),
            )
        known = self.task * self.tasks.each if term.seen else logits.shape[1]
        return output_divergence(term, logits, labels, stored, known).mean()

    def _said(self, draw: Draw) -> tuple[Tensor, Tensor]:
        rows = self._rows[draw["places"]]
        return self._model.logits(self.tasks.train.pictures[rows], draw.get("noise")), self._labels(rows)

    def _labels(self, rows: Tensor) -> Tensor:
        return self.tasks.train.labels[rows].to(self._model.device)

    def _commit(self, step: int) -> None:
        """What earlier steps saw enters the buffer: before this one draws from it, and once."""
        if step <= self._step:
            return
        for draw in self._pending:
            if self.buffer is not None and "logits" in draw.cache:
                self.buffer.add(self._rows[draw["places"]], draw.cache["logits"])
        self._pending = []

    def settle(self) -> None:
        """Take the last step's rows into the buffer: the task, or the run, stops here."""
        self._commit(self._step + 1)

    def state(self) -> dict[str, Tensor]:
        """The buffer and what is remembered of the weights."""
        self.settle()
        parts = {"buffer": self.buffer, "memory": self.memory}
        return {
            f"{name}.{key}": tensor
            for name, part in parts.items()
            if part is not None
            for key, tensor in part.state().items()
        }

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Take both back."""
        for name, part in (("buffer", self.buffer), ("memory", self.memory)):
            if part is not None:
                own = f"{name}."
                part.load_state({k.removeprefix(own): t for k, t in state.items() if k.startswith(own)})


def output_divergence(
    term: OutputTerm, logits: Tensor, labels: Tensor, stored: Tensor | None, known: int
) -> Tensor:
    """D of each row (n,) for outputs (n, classes), of which the first `known` count, labels (n,) and the
    logits (n, classes) that were stored or the old model's.
    """
    heat, count = term.temperature, logits.shape[1]
    if term.target in ("stored", "old"):
        assert stored is not None
        target = _point(term, stored[:, :known] / heat)
    else:
        flat = torch.full_like(logits, 1 / count)
        share = F.one_hot(labels, count).to(logits) if term.target == "label" else flat
        target = share[:, :known].log() if term.generator == "negative entropy" else share[:, :known]
    output = _point(term, logits[:, :known] / heat)
    kind = generator(term.generator)
    first, second = (target, output) if term.order == "target first" else (output, target)
    return divergence(kind, first, second)


def _point(term: OutputTerm, logits: Tensor) -> Tensor:
    """A point in the generator's coordinates."""
    if term.space == "logits":
        return logits
    log = logits.log_softmax(-1)
    return log if term.generator == "negative entropy" else log.exp()
