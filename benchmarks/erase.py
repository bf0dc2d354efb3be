"""The erasing benchmark on the nano world: methods x default concepts x seeds, beside the controls.

    python benchmarks/erase.py --out runs/erase [--methods uce doco ablation] [--seeds 0 1 2] [--n 40]
    python benchmarks/erase.py --out runs/surgery --variants surgery

Every cell (one erasure, one evaluation) is a JSON file in --out, so that a killed run goes on where it was.
The table
goes to stdout as markdown; a figure over runs is their mean with a 95 % t interval.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from pathlib import Path
from typing import Any

from oubliette.backends import open_model
from oubliette.core.numbers import plain
from oubliette.data.concept import Concept
from oubliette.erase.run import erase
from oubliette.eval.evaluate import compare
from oubliette.eval.pictures.sampling import Sampling
from oubliette.eval.result import Evaluation, Row
from oubliette.eval.statistics import t_interval
from oubliette.recipe import load_recipe
from oubliette.world import facts

CONTROLS = ("gold", "random weights", "prompt filter")
#: What each named variant changes in doco-nano: the ablation of the two claims of the paper. "off" has the
#: erasing gradient alone, "sum" adds a tenth of the prior's (the released code without surgery), the next two
#: have the prior as a constraint alone, and the last is the preset: projected, and the prior's added.
SURGERY = {
    "doco off": ["surgery.name=sum", "train.retain_weight=0"],
    "doco sum": ["surgery.name=sum", "train.retain_weight=0.1"],
    "doco project": ["surgery.name=project", "train.retain_weight=0"],
    "doco project leak": ["surgery.name=project", "train.retain_weight=0", "method.leak=true"],
    "doco doco_ref": ["surgery.name=doco_ref", "train.retain_weight=0"],
    "doco doco_ref leak": ["surgery.name=doco_ref", "train.retain_weight=0", "method.leak=true"],
    "doco preset": [],
}


def jobs(arguments: argparse.Namespace) -> list[tuple[str, str, list[str]]]:
    """(row name, preset, overrides) of what is to be compared."""
    if arguments.variants == "surgery":
        return [(name, "doco-nano", overrides) for name, overrides in SURGERY.items()]
    return [(name, f"{name}-nano", []) for name in arguments.methods]


def concepts(arguments: argparse.Namespace) -> list[Concept]:
    table = facts.DEVELOPMENT_CONCEPTS if arguments.development else facts.DEFAULT_CONCEPTS
    chosen = [c for c in table if not arguments.kinds or c[2] in arguments.kinds]
    return [Concept(name=name, anchor=anchor, kind=kind) for name, anchor, kind in chosen]


def cell(
    path: Path,
    arguments: argparse.Namespace,
    concept: Concept,
    preset: str,
    overrides: list[str],
    seed: int,
    controls: tuple[str, ...] = (),
) -> Evaluation:
    """One erasure and its evaluation, from the file if it is there."""
    if path.exists():
        return Evaluation.from_json(path.read_text())
    base = open_model("nano")
    # The controls' cell has the base once more for a model: its pictures are in the cache.
    models: dict[str, Any] = {}
    if not preset:
        models["again"] = open_model("nano")
    seconds: dict[str, float] = {}
    if preset:
        models["erased"] = open_model("nano")
        recipe = load_recipe(
            preset,
            [
                "model=nano",
                f"seed={seed}",
                *arguments.set,
                *overrides,
                f"concepts=[{{name: {concept.name}, anchor: {concept.anchor}, kind: {concept.kind}}}]",
            ],
        )
        result = erase(models["erased"], recipe, cache=arguments.out / "latents", show_progress=False)
        seconds = result.seconds
    evaluation = compare(
        models,
        base,
        [concept],
        n=arguments.n,
        each=arguments.each,
        seed=1000 + seed,
        cache=arguments.out / "pictures",
        controls=controls,
        sampling=Sampling(steps=arguments.steps, guidance=3.0),
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.with_suffix(".seconds.json").write_text(json.dumps(seconds))
    evaluation.write(path)
    return evaluation


def numbers(row: Row) -> dict[str, float]:
    """The figures of one row on its one concept, in percent."""
    figures = row.concepts[0]
    found: dict[str, float] = {}
    for split in ("in-set", "withheld"):
        leak = figures.leakage_of(split)
        if leak is not None and leak.leakage is not None:
            found[f"leakage {split}"] = 100 * leak.leakage.value
    if figures.utility is not None:
        for name in ("ira_near", "ira_far", "cra"):
            kept = getattr(figures.utility, name)
            if kept is not None:
                found[name] = 100 * kept.rate.value
    if row.fidelity.kid is not None:
        found["KID x1000"] = 1000 * row.fidelity.kid.value
    return found


def interval(values: list[float], least: float = -math.inf) -> str:
    """Mean, at least `least`, and half the width of its 95 % t interval over runs where there are some."""
    if len(values) < 2:
        return plain(f"{max(values[0], least):.1f}") if values else "-"
    estimate = t_interval(values)
    return f"{plain(format(max(estimate.value, least), '.1f'))} ± {(estimate.high - estimate.low) / 2:.1f}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--methods", nargs="+", default=["uce", "doco", "ablation"])
    parser.add_argument("--variants", choices=["methods", "surgery"], default="methods")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--kinds", nargs="*", default=[])
    parser.add_argument("--n", type=int, default=40)
    parser.add_argument("--each", type=int, default=5)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--development", action="store_true", help="tune here, never report")
    parser.add_argument("--set", action="append", default=[], help="an override of every recipe, a.b=c")
    arguments = parser.parse_args()
    rows: dict[tuple[str, str], list[dict[str, float]]] = {}
    times: dict[str, list[float]] = {}
    started = time.monotonic()
    for concept in concepts(arguments):
        evaluation = cell(
            arguments.out / f"controls-{concept.kind}.json",
            arguments,
            concept,
            "",
            [],
            0,
            CONTROLS[1:] if arguments.development else CONTROLS,  # gold knows the development concepts
        )
        for row in evaluation.rows:
            if row.role == "control":  # the model of this cell is the base once more
                rows.setdefault((row.name, concept.kind), []).append(numbers(row))
        for name, preset, overrides in jobs(arguments):
            for seed in arguments.seeds:
                path = arguments.out / f"{name.replace(' ', '-')}-{concept.kind}-{seed}.json"
                evaluation = cell(path, arguments, concept, preset, overrides, seed)
                rows.setdefault((name, concept.kind), []).append(numbers(evaluation.row("erased")))
                phases = json.loads(path.with_suffix(".seconds.json").read_text())
                times.setdefault(name, []).append(phases["prepare"] + phases["optimise"])
                print(
                    f"{time.monotonic() - started:.0f} s {name} {concept.name} seed {seed}: "
                    f"{rows[name, concept.kind][-1]}",
                    file=sys.stderr,
                    flush=True,
                )
    columns = ["leakage in-set", "leakage withheld", "ira_near", "ira_far", "cra", "KID x1000"]
    print(f"| row | kind | runs | {' | '.join(columns)} | seconds |")
    print("|---|---|---|" + "---|" * (len(columns) + 1))
    for (name, kind), found in rows.items():
        # Less than the floor is nothing: leakage is shown from 0.
        least = {column: 0.0 for column in columns if column.startswith("leakage")}
        cells = [
            interval([f[column] for f in found if column in f], least.get(column, -math.inf))
            for column in columns
        ]
        print(f"| {name} | {kind} | {len(found)} | {' | '.join(cells)} | {interval(times.get(name, []))} |")


if __name__ == "__main__":
    main()
