"""Someone who fine-tunes a model under a mask or without one, and what a judge sees of it on the way."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from oubliette.core.run_folder import read_kept, write_kept
from oubliette.eval.pictures.sampling import Sampling
from oubliette.workflows.pictures import asked_of

if TYPE_CHECKING:
    from oubliette.data.concept import Concept
    from oubliette.eval.judge import Judge
    from oubliette.eval.sample_store import How

__all__ = ["AdapterDonor", "TrainingCurve", "User", "area", "asked_of"]


@dataclass(frozen=True)
class TrainingCurve:
    """What one fine-tuning came to: the judge's booleans at every look, the parameters that were free, the L2
    norm of what moved, the seconds of a step.
    """

    hits: list[list[int]]
    parameters: int
    drift: float
    step_seconds: float

    @property
    def rates(self) -> list[float]:
        """The share of samples in which the judge finds the concept, at every look."""
        return [sum(one) / len(one) for one in self.hits]


class AdapterDonor(Protocol):
    """A relative of the model that is trained in its place, and lends what it learned."""

    model: Any

    def given_to(self, model: Any, frozen: Sequence[str]) -> AbstractContextManager[None]:
        """`model` with what was learned so far, inside the block."""


@dataclass
class User:
    """Fine-tunes one start on one thing after the other; the model comes back bit for bit each time.

    `mode` is one of `oubliette.train.tuning.MODES`, `budget` its `Budget`; `frozen` the tensors that must not
    move; `how` is the way in which the model is asked. `starts` is a folder in which what the untouched model
    shows is kept, since it is the same for all.
    """

    model: Any
    judge: Judge
    mode: str
    budget: Any
    frozen: Sequence[str] = ()
    how: How = field(default_factory=lambda: Sampling(steps=15))
    starts: Path | None = None
    lent: AdapterDonor | None = None
    options: dict[str, Any] = field(default_factory=dict)

    def train(
        self, concept: Concept, data: Any, asked: Any, at: Sequence[int], *, name: str = ""
    ) -> TrainingCurve:
        """Train on `data`, judging `asked` (prompts and seeds of the concept) after the steps in `at`.

        `name` is what the start is kept under; nothing is kept where it is empty. A mask that freezes every
        layer that adapters would go on leaves a LoRA user nothing to train: the start is what there is.
        """
        from oubliette.train.tuning.modes import rewording
        from oubliette.train.tuning.tune import tune

        change = rewording(self.mode, self.options)
        hits: list[list[int]] = []
        start = self.starts / f"{name}.json" if self.starts is not None and name else None

        def look(step: int, model: Any) -> None:
            content = read_kept(start) if step == 0 and start is not None else None
            if content is not None:
                hits.append(json.loads(content)["hits"])
                return
            plain = change is None or step == 0
            prompts = [prompt if plain or change is None else change(prompt) for prompt in asked.prompts]
            lending = nullcontext() if self.lent is None else self.lent.given_to(self.model, self.frozen)
            with lending:
                samples = self._asked(prompts, list(asked.seeds))
            hits.append([int(hit) for hit in self.judge.hits(samples, concept)])
            if step == 0 and start is not None:
                write_kept(start, json.dumps({"hits": hits[-1]}).encode())

        if self._shut_out():
            look(0, self.model)
            return TrainingCurve(hits * len(at), 0, 0.0, 0.0)
        moves_weights = self.mode != "textual-inversion"
        done = tune(
            self.model if self.lent is None else self.lent.model,
            data,
            self.mode,
            self.budget,
            frozen=(list(self.frozen) or None) if self.lent is None else None,
            at=at,
            look=look,
            options=self.options,
            delta=moves_weights,
        )
        drift = math.sqrt(sum(float(moved.square().sum()) for moved in done.delta.values()))
        return TrainingCurve(hits, done.parameters, drift, done.seconds / self.budget.steps)

    def _asked(self, prompts: Sequence[str], seeds: Sequence[int]) -> Any:
        made: list[Any] = []
        for first in range(0, len(prompts), self.how.batch):
            part = slice(first, first + self.how.batch)
            made += self.how.make(self.model, prompts[part], seeds[part])
        return self.how.together(prompts, made)

    def _shut_out(self) -> bool:
        from oubliette.train.tuning.lora import targets_of

        return self.mode == "lora" and set(targets_of(self.model, "attention")) <= set(self.frozen)


def area(at: Sequence[int], rates: Sequence[float]) -> float:
    """The mean rate over log(1 + step), by trapezoids."""
    x = [math.log1p(step) for step in at]
    parts = zip(x, x[1:], rates, rates[1:], strict=False)
    return sum((b - a) * (low + high) / 2 for a, b, low, high in parts) / (x[-1] - x[0])
