"""Cells of a benchmark in one process or several, each with its share of the cores."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from pathlib import Path
from typing import Any, TypeVar

__all__ = ["in_processes"]

C = TypeVar("C")


def in_processes(
    work: Callable[[Any, C, Path], float], plan: Any, cells: Sequence[C], out: Path, jobs: int
) -> Iterator[tuple[C, float]]:
    """Do `work(plan, cell, out)` for every cell; each cell with its seconds, as they are done.

    `work` is a module's function and `plan` and cells can be pickled where `jobs` is above 1. The first error
    ends it all, and cells that were not begun are left.
    """
    if jobs == 1:
        for cell in cells:
            yield cell, work(plan, cell, out)
        return
    context = multiprocessing.get_context("spawn")  # torch's threads do not survive a fork
    cores = max(1, (os.cpu_count() or 1) // jobs)
    with ProcessPoolExecutor(jobs, mp_context=context, initializer=_share, initargs=(cores,)) as pool:
        running: dict[Future[float], C] = {pool.submit(work, plan, cell, out): cell for cell in cells}
        try:
            while running:
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    yield running.pop(future), future.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _share(cores: int) -> None:
    import torch

    torch.set_num_threads(cores)
