"""What every training of the world shares: a resumable cache folder, a log, a schedule, an average of the
weights."""

from __future__ import annotations

import json
import math
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from oubliette.core.writing import write_tensors


def save_atomic(tensors: dict[str, Tensor], path: Path, metadata: dict[str, str] | None = None) -> None:
    """Writes safetensors so that a killed run leaves the old file or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_tensors(path, {k: v.detach().contiguous().cpu() for k, v in tensors.items()}, metadata)


class Run:
    """One resumable training: AdamW, warm-up and cosine decay, EMA of the weights, a JSONL log, checkpoints.

    `step(loss)` does one update; `done` says when to stop. Every `every` steps the state goes to `folder`.
    A run that
    is started again goes on from its last checkpoint; draws are seeded by step, so no random state need be
    kept. `total` places
    the run at the start of a longer schedule, which a fork of it (`fork`) goes on with.
    """

    def __init__(
        self,
        folder: Path,
        modules: dict[str, nn.Module],
        *,
        steps: int,
        learning_rate: float,
        weight_decay: float = 0.01,
        warm_up: int = 100,
        ema: float = 0.0,
        every: int = 200,
        decay_from: float = 0.0,
        total: int | None = None,
    ) -> None:
        self.folder, self.modules, self.steps, self.every = folder, modules, steps, every
        self.learning_rate, self.warm_up, self.ema, self.decay_from = learning_rate, warm_up, ema, decay_from
        self.total = total or steps
        self.parameters = [p for m in modules.values() for p in m.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(
            self.parameters, lr=learning_rate, weight_decay=weight_decay, betas=(0.9, 0.99)
        )
        self.average = [p.detach().clone() for p in self.parameters] if ema else []
        self.at = 0
        self.started, self.resumed_at = time.time(), 0
        self.spent = 0.0
        folder.mkdir(parents=True, exist_ok=True)
        if (folder / "state.safetensors").exists():
            self._resume()

    @property
    def done(self) -> bool:
        return self.at >= self.steps

    def _rate(self) -> float:
        if self.at < self.warm_up:
            return self.learning_rate * (self.at + 1) / self.warm_up
        progress = self.at / self.total
        if progress < self.decay_from:
            return self.learning_rate
        progress = (progress - self.decay_from) / max(1e-9, 1 - self.decay_from)
        return self.learning_rate * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * min(1.0, progress))))

    def step(self, loss: Tensor, facts: dict[str, float] | None = None) -> None:
        value = float(loss.detach())
        if not math.isfinite(value):
            raise RuntimeError(
                f"training stopped: the loss is {value} at step {self.at} of {self.folder.name}"
            )
        for group in self.optimizer.param_groups:
            group["lr"] = self._rate()
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.optimizer.step()
        if self.ema:
            decay = min(self.ema, (self.at + 1) / (self.at + 10))
            torch._foreach_lerp_(self.average, [p.detach() for p in self.parameters], 1 - decay)
        self.at += 1
        if self.at % 50 == 0 or self.done:
            self._log(value, facts or {})
        if self.at % self.every == 0 or self.done:
            self.save()

    def _log(self, loss: float, facts: dict[str, float]) -> None:
        elapsed = time.time() - self.started
        pace = elapsed / max(1, self.at - self.resumed_at)
        row = {"step": self.at, "loss": round(loss, 5), "seconds": round(self.spent + elapsed, 1), **facts}
        with open(self.folder / "log.jsonl", "a") as handle:
            handle.write(json.dumps(row) + "\n")
        print(
            f"{self.folder.name} {self.at}/{self.steps} loss {loss:.4f} {pace:.3f} s/step, "
            f"{pace * (self.steps - self.at) / 60:.1f} min left {facts or ''}",
            file=sys.stderr,
            flush=True,
        )

    def save(self) -> None:
        state: dict[str, Tensor] = {}
        for index, parameter in enumerate(self.parameters):
            state[f"p.{index}"] = parameter
            slots = self.optimizer.state[parameter]
            for key in ("exp_avg", "exp_avg_sq", "step"):
                if key in slots:
                    state[f"{key}.{index}"] = slots[key]
            if self.ema:
                state[f"e.{index}"] = self.average[index]
        for name, module in self.modules.items():
            for key, buffer in module.named_buffers():
                state[f"b.{name}.{key}"] = buffer
        spent = self.spent + time.time() - self.started
        save_atomic(state, self.folder / "state.safetensors", {"at": str(self.at), "spent": str(spent)})

    def _resume(self) -> None:
        from safetensors import safe_open

        path = self.folder / "state.safetensors"
        state = load_file(path)
        with safe_open(path, "pt") as handle:
            facts = handle.metadata()
        self.at = self.resumed_at = int(facts["at"])
        self.spent = float(facts["spent"])
        with torch.no_grad():
            for index, parameter in enumerate(self.parameters):
                parameter.copy_(state[f"p.{index}"])
                slots = {
                    k: state[f"{k}.{index}"]
                    for k in ("exp_avg", "exp_avg_sq", "step")
                    if f"{k}.{index}" in state
                }
                self.optimizer.state[parameter] = {
                    k: v.to(parameter.device) if k != "step" else v for k, v in slots.items()
                }
                if self.ema:
                    self.average[index].copy_(state[f"e.{index}"])
            for name, module in self.modules.items():
                for key, buffer in module.named_buffers():
                    buffer.copy_(state[f"b.{name}.{key}"])
        print(f"{self.folder.name}: going on from step {self.at}", file=sys.stderr, flush=True)

    def load_average(self) -> None:
        """Puts the averaged weights into the modules: what ships."""
        if self.ema:
            with torch.no_grad():
                torch._foreach_copy_(list[Tensor](self.parameters), self.average)


def fork(stem: Path, branch: Path) -> None:
    """Lets a run in `branch` go on from where the run in `stem` ended: weights, average, optimiser and
    step."""
    target = branch / "state.safetensors"
    if not target.exists():
        branch.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(stem / "state.safetensors", target.with_suffix(".part"))
        target.with_suffix(".part").replace(target)


def train(run: Run, loss_at: Callable[[int], tuple[Tensor, dict[str, float]]]) -> None:
    """Runs to the end: `loss_at(step)` draws everything from the step's own seed."""
    while not run.done:
        loss, facts = loss_at(run.at)
        run.step(loss, facts)
    run.load_average()
