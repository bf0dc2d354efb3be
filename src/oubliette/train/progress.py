"""Progress of long work on standard error: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = ["Tick", "progress"]

Tick = Callable[[int, str], None]
"""Called with how much is done so far, and a note ("loss 0.12")."""

_LINE_EVERY = 15.0  # seconds


@contextmanager
def progress(title: str, total: int, *, done: int = 0, enabled: bool = True) -> Iterator[Tick]:
    """Show work of `total` parts, of which `done` are done before it starts, with the time that is left."""
    if not enabled:
        yield lambda count, note: None
    elif sys.stderr.isatty():
        with _bar(title, total, done) as tick:
            yield tick
    else:
        yield _lines(title, total, done)


@contextmanager
def _bar(title: str, total: int, done: int) -> Iterator[Tick]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=Console(stderr=True), transient=False) as bar:
        task = bar.add_task(title, total=total, completed=done, note="")
        yield lambda count, note: bar.update(task, completed=count, note=note)


def _lines(title: str, total: int, done: int) -> Tick:
    start = time.monotonic()
    last = start

    def tick(count: int, note: str) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last < _LINE_EVERY and not (count >= total and now - start >= _LINE_EVERY):
            return
        last = now
        left = (now - start) / max(1, count - done) * (total - count)
        print(f"{title}: {count}/{total}, {left:.0f} s left{', ' + note if note else ''}", file=sys.stderr)

    return tick
