"""The training loop: roles' gradients, through smoother and surgery, to one update a step."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from oubliette.core.errors import UserError
from oubliette.core.manifest import fingerprint
from oubliette.core.progress import progress
from oubliette.train.checkpoint import check_same_run, describe, read_checkpoint, write_checkpoint
from oubliette.train.config import TrainConfig
from oubliette.train.gradients import (
    GradScale,
    StepGradients,
    as_floats,
    clip_,
    global_norm,
    micro_batch_rng,
)
from oubliette.train.objective import Objective
from oubliette.train.optimizer import build_optimizer, load_optimizer_state, optimizer_state
from oubliette.train.processes import Processes
from oubliette.train.roles import Draw, Role
from oubliette.train.run_log import RunLog
from oubliette.train.schedule import learning_rate
from oubliette.train.smoothing import NoSmoother, Smoother
from oubliette.train.surgery import Sum, Surgery
from oubliette.train.trainable import parameters_of, these_alone
from oubliette.train.weights import Weights

if TYPE_CHECKING:
    from oubliette.backends.base import Backend

__all__ = ["Loop", "NonFiniteLoss"]

_AUTOCAST = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}
_FREE_TO_CHANGE = ("log_every", "checkpoint_every")  # settings that do not change the weights a run ends in


class NonFiniteLoss(UserError):  # noqa: N818 - an outcome of a run, named for what happened
    """A role's loss or gradient is NaN or infinite; the weights are those before the step."""

    def __init__(self, role: str, step: int, what: str) -> None:
        super().__init__(
            f"step {step}: the {what} of role '{role}' is not finite; the weights are as before the step. "
            "A lower train.learning_rate, train.clip_roles=1 or train.precision=fp32 usually helps"
        )
        self.role, self.step = role, step


class Loop:
    """Trains `weights` of `model` to minimise `objective`; knows no method and no kind of model by name.

    Each of the config's micro-batches has a generator seeded from (seed, step, micro-batch) alone, so that a
    resumed run and a run dealt to several processes see what an uninterrupted single one sees. `log` is a
    JSONL file, `checkpoint` a folder. `callback(step, loop)` is called on the main process after every
    `callback_every` updates. Weights of 16 bits are updated through fp32 copies.
    """

    def __init__(
        self,
        model: Backend,
        objective: Objective,
        data: Any,
        weights: Weights,
        config: TrainConfig,
        *,
        surgery: Surgery | None = None,
        smoother: Smoother | None = None,
        seed: int = 0,
        log: Path | str | None = None,
        callback: Callable[[int, Loop], None] | None = None,
        callback_every: int = 0,
        checkpoint: Path | str | None = None,
        show_progress: bool = True,
    ) -> None:
        self.model, self.objective, self.weights, self.config = model, objective, weights, config
        self.surgery: Surgery = surgery or Sum()
        self.smoother: Smoother = smoother or NoSmoother()
        self.seed = seed
        self.step = 0
        """Updates done so far."""
        self._callback, self._callback_every = callback, callback_every
        self._checkpoint = None if checkpoint is None else Path(checkpoint)
        self._processes = Processes(model.device)
        if config.accumulation % self._processes.count:
            raise UserError(
                f"train.accumulation is {config.accumulation} with {self._processes.count} processes: "
                "a step's micro-batches are dealt to them, so it must be a multiple of that"
            )
        self._show = show_progress and self._processes.is_main
        self._log = RunLog(log if self._processes.is_main else None)
        self._scale = GradScale(config.precision == "fp16")
        self._everything = parameters_of(model)
        with self._only_these_require_grad(), self._autocast(), self.weights.originals():
            objective.setup(model, data, weights, seed)
        self._everything = parameters_of(model)  # again: an objective may add layers
        self._masters = weights.masters()
        self._optimizer = build_optimizer(self._masters.tensors, config)

    @property
    def records(self) -> list[dict[str, Any]]:
        """What was logged so far, one record a logged step."""
        return self._log.records

    def run(self) -> None:
        """Train until `config.steps` updates are done, showing progress, and finish the smoother."""
        total = self.config.steps
        with progress("training", total, "updates", done=self.step, enabled=self._show) as tick:
            while self.step < total:
                losses = self._update()
                tick(self.step, " ".join(f"{role} {loss:.4g}" for role, loss in losses.items()))
        self.smoother.finish(self.weights)

    def advance(self, count: int) -> dict[str, float]:
        """Do `count` more updates, whatever the config's `steps`; the roles' losses in the last of them."""
        losses: dict[str, float] = {}
        for _ in range(count):
            losses = self._update()
        return losses

    def _update(self) -> dict[str, float]:
        start = time.perf_counter()
        step = self.step
        if step == 0:
            self._log.rewind(0)
        self.surgery.begin(step, self.config.steps, self.seed)
        self.smoother.begin(step, self.config.steps, self.seed)
        with self._only_these_require_grad():
            roles = self._roles(step)
            losses, norms, gradients, helped = self._gradients(step, roles)
            for name, gradient in {**gradients, **helped}.items():
                clip_(gradient, norms[name], roles[name].clip)
            if gradients:
                update = self.surgery.combine(gradients, {name: roles[name] for name in gradients})
                size = float(global_norm(update))
                clip_(update, size, self.config.clip)
                self._apply(update, step)
                norms["update"] = size
            for name, gradient in helped.items():
                _step_helper(roles[name], gradient)
        self.step += 1
        self._scale.succeeded()
        self.smoother.after_step(self.weights, step)
        self._record(losses, norms, time.perf_counter() - start)
        self._after_update()
        return losses

    def _roles(self, step: int) -> dict[str, Role]:
        """The roles with the config's retain weight and clip, less those without a part in the update."""
        roles: dict[str, Role] = {}
        for name, role in self.objective.roles(step).items():
            if role.kind == "retain":
                role = replace(role, weight=role.weight * self.config.retain_weight)
            if role.moves:
                if not self.surgery.needs(role):
                    continue
                role = replace(role, clip=self.config.clip_roles if role.clip is None else role.clip)
            roles[name] = role
        if all(role.kind == "inner" for role in roles.values()):
            raise ValueError(f"the objective has no role with a part in step {step}")
        return roles

    def _draw(self, step: int, again: int = 0) -> list[Draw]:
        """This process's share of the step's micro-batches, or of a further draw of them."""
        draws = []
        for micro in range(self._processes.index, self.config.accumulation, self._processes.count):
            with self._autocast():
                rng = micro_batch_rng(self.seed, step, micro, again)
                draw = self.objective.draw(step, rng, self.config.batch)
                self.objective.before(step, draw)
            draws.append(draw)
        return draws

    def _gradients(
        self, step: int, roles: dict[str, Role]
    ) -> tuple[dict[str, float], dict[str, float], dict[str, list[Tensor]], dict[str, list[Tensor]]]:
        """Losses, gradient norms, the model roles' gradients and the helpers'; nothing has moved yet."""
        movers = {name: role for name, role in roles.items() if role.moves}
        inner = {name: role for name, role in roles.items() if role.kind == "inner"}
        # Kept for the step: 16-bit gradients that overflow are taken anew, on the same draws.
        drawn = cache(partial(self._draw, step))
        while True:
            step_gradients = StepGradients(
                self.objective,
                drawn(0),
                self._processes,
                self._autocast,
                self._scale.value,
                inner,
                drawn,
            )
            at = step_gradients.at(self.weights.parameters)
            gradients = self.smoother.gradients(at, self.weights, movers)
            helped = {
                name: step_gradients.of(name, role.parameters)
                for name, role in roles.items()
                if role.kind == "helper"
            }
            losses = as_floats(step_gradients.losses)
            norms = as_floats({name: global_norm(grad) for name, grad in {**gradients, **helped}.items()})
            for name, loss in losses.items():
                if not math.isfinite(loss):
                    raise NonFiniteLoss(name, step + 1, "loss")
            broken = [name for name, norm in norms.items() if not math.isfinite(norm)]
            if not broken:
                seen = {name: losses[name] for name in roles if name in losses}
                return seen, norms, gradients, helped
            if not self._scale.shrink():
                raise NonFiniteLoss(broken[0], step + 1, "gradient")

    @torch.no_grad()
    def _apply(self, update: list[Tensor], step: int) -> None:
        move = self.smoother.move()
        if move is not None:
            self._masters.move(move)
        self._masters.take(update)
        for group in self._optimizer.param_groups:
            group["lr"] = learning_rate(step, self.config)
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        self._masters.push()
        self.weights.enforce_masks()

    def _record(self, losses: dict[str, float], norms: dict[str, float], seconds: float) -> None:
        if self.step % self.config.log_every and self.step != self.config.steps:
            return
        record = {
            "step": self.step,
            "loss": losses,
            "norm": norms,
            "learning_rate": learning_rate(self.step - 1, self.config),
            "surgery": self.surgery.facts(),
            "smoother": self.smoother.facts(),
            "report": self.objective.report(),
            "seconds": round(seconds, 6),
        }
        self._log.write({key: value for key, value in record.items() if value != {}})

    def _after_update(self) -> None:
        if self._callback is not None and self._callback_every and self.step % self._callback_every == 0:
            if self._processes.is_main:
                self._callback(self.step, self)
            self._processes.wait()
        every = self.config.checkpoint_every
        if self._checkpoint is not None and every and self.step % every == 0:
            self.save_checkpoint()

    def save_checkpoint(self) -> None:
        """Write what resuming needs to the checkpoint folder, atomically, from the main process."""
        if self._checkpoint is None:
            raise ValueError("this loop was given no checkpoint folder")
        if self._processes.is_main:
            masters = zip(self._masters.names, self._masters.tensors, strict=True)
            tensors: dict[str, Tensor] = {f"weights.{name}": tensor for name, tensor in masters}
            tensors |= optimizer_state(self._optimizer)
            for name, part in self._parts():
                tensors |= {f"{name}.{key}": tensor for key, tensor in part.state().items()}
            facts = self._identity() | {"step": self.step, "scale": [self._scale.value, self._scale.good]}
            write_checkpoint(self._checkpoint, tensors, facts)
        self._processes.wait()

    def load_checkpoint(self) -> None:
        """Take up the run of the checkpoint folder; UserError if it is another run's, or there is none."""
        if self._checkpoint is None:
            raise ValueError("this loop was given no checkpoint folder")
        tensors, facts = read_checkpoint(self._checkpoint, self.model.device)
        check_same_run(self._checkpoint, facts, self._identity())
        self._masters.load([tensors[f"weights.{name}"] for name in self._masters.names])
        load_optimizer_state(self._optimizer, tensors)
        for name, part in self._parts():
            own = f"{name}."
            part.load_state({key.removeprefix(own): t for key, t in tensors.items() if key.startswith(own)})
        self.step = int(facts["step"])
        self._scale.value, self._scale.good = facts["scale"]
        self._log.rewind(self.step)

    def _parts(self) -> list[tuple[str, Objective | Surgery | Smoother]]:
        """What may have a state of its own, under its name in a checkpoint."""
        return [("objective", self.objective), ("surgery", self.surgery), ("smoother", self.smoother)]

    def _identity(self) -> dict[str, Any]:
        """What two runs must share for one to go on where the other stopped."""
        return {
            "seed": self.seed,
            "train": self.config.model_dump(mode="json", exclude=set(_FREE_TO_CHANGE)),
            "objective": describe(self.objective),
            "weights": describe(self.weights),
            "surgery": describe(self.surgery),
            "smoother": describe(self.smoother),
            "base": fingerprint(self.weights.original),
        }

    def _autocast(self) -> torch.autocast:
        # Without its weight cache: cached casts would outlive a swap of the weights they were made from.
        dtype = _AUTOCAST[self.config.precision]
        return torch.autocast(
            self.model.device.type, dtype=dtype, enabled=dtype is not None, cache_enabled=False
        )

    def _only_these_require_grad(self) -> AbstractContextManager[None]:
        return these_alone(self._everything, self.weights.parameters)


def _step_helper(role: Role, gradient: list[Tensor]) -> None:
    assert role.optimizer is not None
    for parameter, part in zip(role.parameters, gradient, strict=True):
        parameter.grad = part.to(parameter.dtype).mul_(role.weight)
    role.optimizer.step()
    role.optimizer.zero_grad(set_to_none=True)
