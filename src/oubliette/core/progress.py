"""Progress of long work on standard error: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from oubliette.core.errors import doing

__all__ = ["Tick", "counted", "progress"]

Tick = Callable[[int, str], None]
"""Called with how much is done so far, and a note ("loss 0.12")."""

_LINE_EVERY = 15.0  # seconds


@contextmanager
def progress(
    title: str, total: int, unit: str = "steps", *, done: int = 0, enabled: bool = True
) -> Iterator[Tick]:
    """Show work of `total` parts ("pictures"), `done` of them before it starts, and the time that is left."""
    with doing(title):
        if not enabled:
            yield lambda count, note: None
        elif sys.stderr.isatty():
            with _bar(title, total, done, unit) as tick:
                yield tick
        else:
            yield _lines(title, total, done, unit)


@contextmanager
def counted(title: str, unit: str) -> Iterator[Callable[[int, int], None]]:
    """Progress whose total is known when it is first told: called with what is done and the total."""
    with ExitStack() as stack:
        ticks: list[Tick] = []

        def told(done: int, total: int) -> None:
            if not ticks:
                ticks.append(stack.enter_context(progress(title, total, unit, done=done)))
            ticks[0](done, "")

        yield told


@contextmanager
def _bar(title: str, total: int, done: int, unit: str) -> Iterator[Tick]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(unit),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=Console(stderr=True), transient=False) as bar:
        task = bar.add_task(title, total=total, completed=done, note="")
        yield lambda count, note: bar.update(task, completed=count, note=note)


def _lines(title: str, total: int, done: int, unit: str) -> Tick:
    start = time.monotonic()
    last = start

    def tick(count: int, note: str) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last < _LINE_EVERY and not (count >= total and now - start >= _LINE_EVERY):
            return
        last = now
        left = (now - start) / max(1, count - done) * (total - count)
        print(
            f"{title}: {count} of {total} {unit}, {left:.0f} s left{', ' + note if note else ''}",
            file=sys.stderr,
        )

    return tick
