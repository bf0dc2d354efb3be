"""Fine-tune a model in one of the modes, on the shared loop, and look on the way; it comes back as it was."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast, runtime_checkable

from torch import Tensor

from oubliette.core.errors import UserError
from oubliette.core.run_folder import checkpointed
from oubliette.train.checkpoint import has_checkpoint
from oubliette.train.finetune import FineTune, SupervisedData
from oubliette.train.loop import Loop
from oubliette.train.processes import Processes
from oubliette.train.tuning.budget import Budget
from oubliette.train.tuning.modes import Reword, Trained, open_mode

if TYPE_CHECKING:
    from oubliette.backends.base import Backend

__all__ = ["Look", "Rewordable", "Tuned", "loop_seed", "tune"]

Look = Callable[[int, "Backend"], None]
"""Called with the updates done so far and the model as it is then; must leave its weights alone."""


@runtime_checkable
class Rewordable(Protocol):
    """Data whose texts can be put in other words: what a mode with a token of its own needs."""

    def reworded(self, change: Reword) -> SupervisedData:
        """The same data with every text changed; UserError where no text changes."""


@dataclass(frozen=True)
class Tuned:
    """What fine-tuning did. `seconds` are those of training, `look_seconds` those spent in `look`.

    `tensors` are the names of what was trained, `parameters` how many numbers that is; `records` the loop's
    log. Where asked for, `delta` is what the model's own tensors moved by (fp32), and `values` what was
    trained itself: tensors by their names, or adapters as "NAME.lora_A" and "NAME.lora_B" (on the CPU).
    """

    mode: str
    budget: Budget
    tensors: tuple[str, ...]
    parameters: int
    records: list[dict[str, Any]]
    seconds: float
    look_seconds: float
    delta: dict[str, Tensor] = field(default_factory=dict)
    values: dict[str, Tensor] = field(default_factory=dict)

    @property
    def loss(self) -> float:
        """The loss in the last logged step."""
        return float(self.records[-1]["loss"]["fit"])


def tune(
    model: Backend,
    data: SupervisedData,
    mode: str,
    budget: Budget,
    *,
    frozen: Iterable[str] | Path | None = None,
    at: Sequence[int] = (),
    look: Look | None = None,
    options: Mapping[str, Any] | None = None,
    log: Path | str | None = None,
    checkpoint: Path | str | None = None,
    show_progress: bool = False,
    keep: bool = False,
    delta: bool = False,
    values: bool = False,
) -> Tuned:
    """Train `model` on `data` in a mode of `oubliette.train.tuning.MODES`, calling `look(step, model)` after
    each step in `at` (0: before the first).

    The model comes back bit for bit, unless `keep`. While `look` runs, the model has its usual layers and
    names (adapters merged) and can be drawn from, fingerprinted and saved; prompts for it go through
    `oubliette.train.tuning.modes.rewording`. `frozen` tensors stay (names, or a file of them), `options` are
    the mode's own, `log` is a JSONL file, `values` asks for a copy of what was trained. Looks change nothing:
    the same budget ends in the same bits with any. `checkpoint` is a folder in which checkpoints are kept and
    from which the same training goes on; looks at its earlier steps are not taken again. UserError for a step
    beyond the budget, an unknown mode or frozen name, and where nothing is left to train.
    """
    steps = sorted({int(step) for step in at})
    if steps and not 0 <= steps[0] <= steps[-1] <= budget.steps:
        wrong = steps[0] if steps[0] < 0 else steps[-1]
        raise UserError(f"cannot look at step {wrong}: its steps are 0 to {budget.steps}")
    with open_mode(model, mode, budget, frozen=frozen, options=options) as trained:
        watch = _Watch(model, trained, look, frozenset(steps))
        config = budget.train_config()
        loop = Loop(
            model,
            FineTune(),
            _reworded(data, trained, mode),
            trained.weights,
            config if checkpoint is None else checkpointed(config),
            seed=loop_seed(budget.seed),
            log=log,
            checkpoint=checkpoint,
            callback=lambda step, _: watch(step),
            callback_every=1,
            show_progress=show_progress,
        )
        if checkpoint is not None and has_checkpoint(checkpoint):
            loop.load_checkpoint()
        processes = Processes(model.device)
        if processes.is_main and loop.step == 0:
            watch(0)
        processes.wait()
        start = time.perf_counter()
        before = watch.seconds
        loop.run()
        seconds = time.perf_counter() - start - (watch.seconds - before)
        if keep:
            trained.keep()
        return Tuned(
            mode=mode,
            budget=budget,
            tensors=tuple(trained.weights.names),
            parameters=_count(trained),
            records=loop.records,
            seconds=seconds,
            look_seconds=watch.seconds,
            delta=trained.delta() if delta else {},
            values=_values(trained) if values else {},
        )


def loop_seed(seed: int) -> int:
    """The loop's seed for a user's: one that no eraser, trained with a small seed of its own, has used.

    So an attack's noise is not the eraser's; and the loop's generators are seeded with 63 bits, those of an
    evaluation's pictures with 31.
    """
    return int.from_bytes(hashlib.sha256(f"relearn/{seed}".encode()).digest()[:7], "big")


class _Watch:
    """Calls `look` at the asked steps, on the model as anyone would see it, and keeps the time."""

    def __init__(self, model: Backend, trained: Trained, look: Look | None, at: frozenset[int]) -> None:
        self._model, self._trained, self._look, self._at = model, trained, look, at
        self.seconds = 0.0

    def __call__(self, step: int) -> None:
        if self._look is None or step not in self._at:
            return
        start = time.perf_counter()
        with self._trained.plain():
            self._look(step, self._model)
        self.seconds += time.perf_counter() - start


def _reworded(data: SupervisedData, trained: Trained, mode: str) -> SupervisedData:
    if not trained.rewords:
        return data
    if not isinstance(data, Rewordable):
        raise UserError(f"mode '{mode}' needs data whose texts can be reworded, found {type(data).__name__}")
    return cast(Rewordable, data).reworded(trained.prompts)


def _values(trained: Trained) -> dict[str, Tensor]:
    return {name: parameter.detach().to("cpu", copy=True) for name, parameter in trained.parameters.items()}


def _count(trained: Trained) -> int:
    """How many numbers may move: a masked tensor counts where its mask is True."""
    return sum(
        int(trained.element_masks[name].sum()) if name in trained.element_masks else parameter.numel()
        for name, parameter in trained.parameters.items()
    )
