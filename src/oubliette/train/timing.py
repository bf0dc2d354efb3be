"""How fast a model is here, and how much a pass of it takes: a few passes timed, nothing learnt."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn

    from oubliette.backends.base import Backend

__all__ = ["PassTiming", "forward_among", "seconds_a_picture", "time_passes"]

_REPEATS = 3


@dataclass(frozen=True)
class PassTiming:
    """Seconds of one item's forward pass and of its backward, and the bytes its graph holds.

    `items` went through at once, `repeats` times each way. `graph` is what a forward with a graph holds until
    its backward, for one item, counted over the tensors that autograd saves (each storage once, weights not).
    """

    forward: float
    backward: float
    graph: int
    items: int
    repeats: int
    seconds: float

    def facts(self) -> dict[str, Any]:
        """Plain data, and in words what was measured."""
        said = f"{self.repeats} forwards and backwards of {self.items} items in {self.seconds:.1f} s"
        return {**asdict(self), "measured": said}


def time_passes(
    model: Backend, trained: Sequence[nn.Parameter], items: int, *, budget: float = 5.0
) -> PassTiming:
    """Time passes of `items` rows of noise, or of as many as `budget` seconds would surely do.

    The first pass warms up. A few rows' time is a poor guess of a batch's on a GPU and for a small model, and
    a fair one on a CPU that they fill. Weights and flags are as before when the call returns.
    """
    import torch

    from oubliette.train.trainable import parameters_of, these_alone

    every = parameters_of(model)
    begun = time.perf_counter()
    with these_alone(every, trained):
        with torch.no_grad():
            model.rehearse(1)
            single = _timed(model, lambda: model.rehearse(1))
        # A forward, and one with its backward, twice as long, each time; and once to warm up.
        count = min(items, max(1, int(budget / (single * 4 * (_REPEATS + 1)))))
        repeats = _REPEATS if single * count * 4 * (_REPEATS + 1) <= budget else 1
        forwards, boths, held = [], [], 0
        for number in range(repeats + (repeats > 1)):
            with torch.no_grad():
                forward = _timed(model, lambda: model.rehearse(count))
            saved = _Saved(every)
            whole = _timed(model, partial(_there_and_back, model, trained, count, saved))
            if number or repeats == 1:
                forwards.append(forward)
                boths.append(whole)
                held = saved.size
    forward = statistics.median(forwards)
    return PassTiming(
        forward=forward / count,
        backward=max(statistics.median(boths) - forward, 0.0) / count,
        graph=held // count,
        items=count,
        repeats=repeats,
        seconds=time.perf_counter() - begun,
    )


def forward_among(model: Backend, items: int, few: float, *, budget: float = 2.0) -> float:
    """Seconds of one item's forward pass where `items` go through at once, as where pictures are drawn.

    Of a small model each takes less the more there are (on two cores 0.6 times as much among 64 as among 8).
    `few` is what one takes among few; it tells how many the `budget` of seconds is surely enough for.
    """
    import torch

    count = min(items, int(budget / (2 * few))) if few > 0 else items
    if count < 1:
        return few
    with torch.no_grad():
        return min(_timed(model, lambda: model.rehearse(count)) for _ in range(2)) / count


def seconds_a_picture(
    model: Any, *, steps: int, guidance: float, batch: int = 4, budget: float = 2.0
) -> float:
    """Seconds of one picture where `batch` are drawn at once: short drawings, the first of which warms up.

    A few are timed twice (what else runs on a machine slows one down), and then a batch, or as much of one as
    the `budget` of seconds is surely enough for: of a small model each takes less the more there are
    (`forward_among`).
    """
    short, few = min(3, steps), min(4, batch)

    def timed(count: int) -> float:
        begun = time.perf_counter()
        model.draw([""] * count, range(count), steps=short, guidance=guidance, batch=count)
        return (time.perf_counter() - begun) / count

    timed(few)
    each = min(timed(few), timed(few))
    many = min(batch, int(budget / each)) if each > 0 else batch
    if many > few:
        each = min(each, timed(many))
    return each * steps / short


def _there_and_back(model: Backend, trained: Sequence[nn.Parameter], count: int, saved: _Saved) -> None:
    import torch

    with torch.enable_grad(), saved.counted():
        loss = model.rehearse(count).float().square().mean()
    if loss.requires_grad:
        torch.autograd.grad(loss, list(trained), allow_unused=True)


class _Saved:
    """Counts the bytes that autograd saves for a backward, each storage once and none of the weights'."""

    def __init__(self, weights: Sequence[nn.Parameter]) -> None:
        self._known = {weight.untyped_storage().data_ptr() for weight in weights}
        self.size = 0

    def counted(self) -> Any:
        """While open, what is saved is counted."""
        import torch

        def pack(tensor: torch.Tensor) -> torch.Tensor:
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in self._known:
                self._known.add(storage.data_ptr())
                self.size += storage.nbytes()
            return tensor

        return torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor)


def _timed(model: Backend, work: Callable[[], Any]) -> float:
    import torch

    begun = time.perf_counter()
    work()
    if model.device.type == "cuda":
        torch.cuda.synchronize(model.device)
    return time.perf_counter() - begun
