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

#: Seconds: a phase that takes longer than the first has a line, and another ever so often.
_FIRST_LINE, _LINE_EVERY = 3.0, 15.0


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
    last: float | None = None
    shown = done

    def tick(count: int, note: str) -> None:
        nonlocal last, shown
        now = time.monotonic()
        wait = now - start < _FIRST_LINE if last is None else now - last < _LINE_EVERY
        if count == shown or (wait and not (count >= total and last is not None)):
            return
        last, shown = now, count
        left = (now - start) / max(1, count - done) * (total - count)
        print(
            f"{title}: {count} of {total} {unit}, {left:.0f} s left{', ' + note if note else ''}",
            file=sys.stderr,
        )

    return tick
