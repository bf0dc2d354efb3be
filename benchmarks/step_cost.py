"""What an update costs beside its bare forwards and backwards, and what the closed forms cost.

    python benchmarks/step_cost.py [--shape nano sd15] [--only ablation sam] [--pairs 9] [--json cost.json]
    taskset -c 0 python benchmarks/step_cost.py --threads 1 --clock cpu      (where others use the machine)

For every trained objective (its nano preset), every surgery and smoother (on ablation-nano): the seconds of
an update over the seconds of the passes that it made, which are noted as they happen and made again alone, in
turn with the updates. `sd15` is a UNet of SD-1.5's shape with random weights, latents of --side (16: a
sixteenth of the real area, so that whatever does not grow with the picture, the optimiser's update above all,
weighs up to sixteen times as much as in earnest) and a batch of one. Each configuration runs in a fork of its
own; memory is its peak above what it held before its first update. The bar is 1.10; a row over it says where
the time goes.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

BAR = 1.10


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--shape", nargs="+", default=["nano", "sd15"], choices=["nano", "sd15"])
    parser.add_argument(
        "--only", nargs="+", default=[], help="names, or objective, surgery, smoother, closed"
    )
    parser.add_argument("--pairs", type=int, default=9, help="updates timed against their passes, at most")
    parser.add_argument(
        "--seconds", type=float, default=15.0, help="for a configuration, once it has two pairs"
    )
    parser.add_argument("--side", type=int, default=16, help="side of sd15's latents")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--clock", choices=["wall", "cpu"], default="wall")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    import torch

    torch.set_num_threads(1)  # a pool of threads does not survive a fork: the forks start their own
    clock = time.process_time if arguments.clock == "cpu" else time.perf_counter
    facts: dict[str, Any] = {
        "threads": arguments.threads,
        "clock": arguments.clock,
        "load": os.getloadavg(),
        "side": arguments.side,
        "shapes": {},
    }
    for shape in arguments.shape:
        facts["shapes"][shape] = measured(arguments, shape, clock)
    if arguments.json:
        arguments.json.write_text(json.dumps(facts, indent=2) + "\n")


def measured(arguments: argparse.Namespace, shape: str, clock: Callable[[], float]) -> list[dict[str, Any]]:
    """Measure and print every configuration of one shape."""
    from cost.closed import BARS, measure_closed
    from cost.shapes import built
    from cost.steps import cases, in_a_process, measure_steps

    model = built(shape, arguments.side)
    where = "" if shape == "nano" else f", latents of {arguments.side} x {arguments.side}, batch 1"
    print(f"\n{shape}{where}, {arguments.threads} threads, {arguments.clock} time\n")
    print("| part | name | update s | bare s | ratio [95 %] | pairs | fwd + bwd | peak MiB | over the bar |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- |", flush=True)
    rows: list[dict[str, Any]] = []
    for case in cases(shape, arguments.only):
        row = in_a_process(
            partial(measure_steps, model, case, pairs=arguments.pairs, budget=arguments.seconds, clock=clock),
            arguments.threads,
        )
        rows.append(row.facts())
        print(step_row(row), flush=True)
    if shape == "sd15" and (not arguments.only or "closed" in arguments.only):
        print("\n| closed form | solve s | bar s | peak MiB |\n| --- | --- | --- | --- |", flush=True)
        for name, count, _ in BARS:
            row = in_a_process(
                lambda name=name, count=count: measure_closed(model, name, count, clock),
                arguments.threads,
            )
            rows.append(row.facts())
            over = " **over**" if row.seconds > row.bare else ""
            print(f"| {row.name} | {row.seconds:.2f}{over} | {row.bare:g} | {row.memory:.0f} |", flush=True)
    return rows


def step_row(row: Any) -> str:
    """One configuration as a line of the table."""
    from oubliette.core.numbers import percent

    if row.skipped:
        return f"| {row.part} | {row.name} | - | - | - | - | - | - | skipped: {row.skipped} |"
    why = ""
    if row.ratio > BAR:
        why = ", ".join(f"{name} {percent(seconds / row.bare)}" for name, seconds in row.shares.items())
    return (
        f"| {row.part} | {row.name} | {row.seconds:.3f} | {row.bare:.3f} | {row.ratio:.2f} "
        f"[{row.low:.2f}, {row.high:.2f}] | {row.pairs} | {row.forwards:g} + {row.backwards:g} "
        f"| {row.memory:.0f} | {why} |"
    )


if __name__ == "__main__":
    sys.exit(main())
