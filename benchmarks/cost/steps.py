"""Updates timed against their own bare passes, one process a configuration."""

from __future__ import annotations

import multiprocessing
import resource
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from cost.trace import recorded, replay
from oubliette.core.errors import UserError
from oubliette.recipe import build_recipe, preset_names, read_recipe
from oubliette.train.loop import Loop

__all__ = ["Case", "Measured", "cases", "in_a_process", "measure_steps"]

_CONCEPT = {"name": "car", "anchor": "object", "kind": "object"}
_BASE = "ablation-nano"  # what surgeries and smoothers are tried on: a forget and a retain role
#: Lengths that change how many passes a step makes, and not what it adds to them.
_SHORT = {
    "trajectory_steps": 4,
    "attack_steps": 2,
    "inner_steps": 2,
    "adversary_steps": 2,
    "search_steps": 2,
    "warm_up": 0,
    "attack_after": 0,
}
#: A mean of weights that is taken from the first update on, and after every one: its dearest.
_EAGER = {"wa": {"start": 1, "every": 1}}


@dataclass(frozen=True)
class Case:
    """One configuration: what varies ("objective", "surgery", "smoother"), its name, and its raw recipe."""

    part: str
    name: str
    recipe: dict[str, Any]


@dataclass(frozen=True)
class Measured:
    """Seconds of an update and of its bare passes (medians of pairs), their ratio with an interval, and
    memory.

    `forwards` and `backwards` are the denoiser's calls in the last step (in the mean of the steps where they
    differ), each of one micro-batch. `low` and `high` are the ratio's order statistics that hold its median
    with about 95 %. `memory` is the peak in MiB above what the process held before its first update.
    """

    part: str
    name: str
    seconds: float = 0.0
    bare: float = 0.0
    ratio: float = 0.0
    low: float = 0.0
    high: float = 0.0
    pairs: int = 0
    forwards: float = 0.0
    backwards: float = 0.0
    memory: float = 0.0
    shares: dict[str, float] = field(default_factory=dict)
    """Of the time that is not bare: seconds of the optimiser, of the surgery, and of backwards that a replay
    cannot make.
    """
    skipped: str = ""

    def facts(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)


def cases(shape: str, only: Sequence[str] = ()) -> list[Case]:
    """Every trained objective by its nano preset, every surgery and every smoother; `only` names some."""
    from oubliette.erase import METHODS
    from oubliette.train import SMOOTHERS, SURGERIES

    found = []
    for preset in preset_names():
        raw = read_recipe(preset)
        name, options = METHODS.parse(raw["method"])
        if not preset.endswith("-nano") or not hasattr(METHODS.get(name), "loss"):
            continue
        known = METHODS.get(name).Options.model_fields
        short = {key: value for key, value in _SHORT.items() if key in known}
        method = {"name": name, **options, **short}
        found.append(Case("objective", preset.removesuffix("-nano"), {**raw, "method": method}))
    base = read_recipe(_BASE)
    for part, registry in (("surgery", SURGERIES), ("smoother", SMOOTHERS)):
        for name in registry.names():
            found.append(Case(part, name, {**base, part: {"name": name, **_EAGER.get(name, {})}}))
    sized = [Case(case.part, case.name, _sized(case.recipe, shape)) for case in found]
    return [case for case in sized if not only or case.name in only or case.part in only]


def _sized(raw: dict[str, Any], shape: str) -> dict[str, Any]:
    """The recipe with few prompts and pictures, and the batch of one that a big network gets here."""
    data = {**(raw.get("data") or {}), "prompts": 8, "pictures": 2, "picture_steps": 1}
    train = {**(raw.get("train") or {}), "steps": 100_000}
    if shape != "nano":
        train |= {"batch": 1}
        data |= {"bank": "world"}
    return {**raw, "data": data, "train": train, "concepts": [_CONCEPT]}


def measure_steps(
    model: Any, case: Case, *, pairs: int, budget: float, clock: Callable[[], float]
) -> Measured:
    """Run the case's own loop on `model`: updates and their bare passes in turn, until `pairs` or `budget` s.

    A real step is timed while its passes are being noted down (a few microseconds each), and what was noted
    is then made again alone and timed; the first pair warms up and is left out.
    """
    from oubliette.erase import run

    found: list[Measured] = []

    class Timed(Loop):
        def run(self) -> None:
            found.append(_timed(self, case, pairs=pairs, budget=budget, clock=clock))

    original, run.Loop = run.Loop, Timed  # type: ignore[misc]
    try:
        run.erase(model, build_recipe(case.recipe), show_progress=False)
    except UserError as error:
        return Measured(case.part, case.name, skipped=str(error))
    finally:
        run.Loop = original  # type: ignore[misc]
    return found[0] if found else Measured(case.part, case.name, skipped="trains nothing on the loop")


def _timed(loop: Any, case: Case, *, pairs: int, budget: float, clock: Callable[[], float]) -> Measured:
    networks = _networks(loop)
    denoiser = loop.model.modules()[_denoiser(loop.model)]
    held = _resident()
    loop.advance(1)
    memory = _peak() - held
    parts = _Parts(loop, clock)
    real: list[float] = []
    bare: list[float] = []
    calls: list[tuple[int, int]] = []
    started = time.monotonic()
    for number in range(pairs + 1):
        parts.clear()
        with recorded(networks, clock) as trace:
            begun = clock()
            loop.advance(1)
            seconds = clock() - begun
        trace.settle()
        with loop._only_these_require_grad(), loop._autocast():
            begun = clock()
            left_out = replay(trace)
            again = clock() - begun
        if number:
            real.append(seconds)
            bare.append(again)
            calls.append(trace.calls(denoiser))
            parts.keep(backwards=left_out)
        if len(real) >= 2 and time.monotonic() - started > budget:
            break
    ratios = sorted(a / b for a, b in zip(real, bare, strict=True))
    low, high = _median_interval(ratios)
    return Measured(
        case.part,
        case.name,
        seconds=statistics.median(real),
        bare=statistics.median(bare),
        ratio=statistics.median(ratios),
        low=low,
        high=high,
        pairs=len(ratios),
        forwards=statistics.mean(f for f, _ in calls),
        backwards=statistics.mean(b for _, b in calls),
        memory=memory / 2**20,
        shares=parts.medians(),
    )


class _Parts:
    """The seconds that a step spends in the optimiser, in the surgery and in the rest around the passes."""

    def __init__(self, loop: Any, clock: Callable[[], float]) -> None:
        self._now: dict[str, float] = {}
        self._kept: list[dict[str, float]] = []
        for name, owner, method in (("optimiser", loop, "_apply"), ("surgery", loop.surgery, "combine")):
            setattr(owner, method, self._watched(name, getattr(owner, method), clock))

    def _watched(self, name: str, original: Callable[..., Any], clock: Callable[[], float]) -> Any:
        def call(*arguments: Any, **options: Any) -> Any:
            begun = clock()
            try:
                return original(*arguments, **options)
            finally:
                self._now[name] = self._now.get(name, 0.0) + clock() - begun

        return call

    def clear(self) -> None:
        self._now = {}

    def keep(self, **more: float) -> None:
        self._kept.append({**self._now, **more})

    def medians(self) -> dict[str, float]:
        names = {name for each in self._kept for name in each}
        return {name: statistics.median(each.get(name, 0.0) for each in self._kept) for name in sorted(names)}


def _networks(loop: Any) -> list[nn.Module]:
    """The model's components but its VAE, and whatever networks the objective has of its own."""
    own = [module for name, module in loop.model.modules().items() if name != "vae"]
    parts = [part for part in vars(loop.objective).values() if isinstance(part, nn.Module)]
    # A list is never called itself: its networks are.
    return own + [each for part in parts for each in (part if isinstance(part, nn.ModuleList) else [part])]


def _denoiser(model: Any) -> str:
    return next(name for name in model.modules() if name in ("unet", "transformer"))


def _median_interval(values: Sequence[float]) -> tuple[float, float]:
    """Order statistics that hold the median with 95 % or as near as there are values for (binomial)."""
    from scipy.stats import binom

    count = len(values)
    rank = int(binom.ppf(0.025, count, 0.5))
    return values[max(rank - 1, 0)], values[min(count - rank, count - 1)]


def _resident() -> int:
    """Bytes this process holds now; its peak is set back to that where the system lets it."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return pages * resource.getpagesize()
    except OSError:
        return _peak()


def _peak() -> int:
    """The most bytes this process has held: VmHWM, as ru_maxrss but for where a fork starts."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def in_a_process(work: Callable[[], Any], threads: int) -> Any:
    """What `work` gives in a fork of this process, which shares its memory; its failure is raised here."""
    context = multiprocessing.get_context("fork")
    here, there = context.Pipe(duplex=False)

    def call() -> None:
        torch.set_num_threads(threads)
        try:
            there.send((True, work()))
        except BaseException as error:
            there.send((False, f"{type(error).__name__}: {error}"))

    process = context.Process(target=call)
    process.start()
    there.close()
    try:
        good, found = here.recv()
    except EOFError:
        good, found = False, "the process died (out of memory?)"
    process.join()
    if not good:
        raise RuntimeError(found)
    return found
