"""Trained erasers on three concepts at once beside one at a time: does each get what it gets alone?

    python benchmarks/joint.py --out runs/joint [--methods doco ablation] [--seeds 0 1] [--arms joint single]
    python benchmarks/joint.py --out runs/joint --single docs/leaderboard.json --arms joint

A cell (one erasure, one evaluation) is a folder in --out, so that a killed run goes on where it was. Joint
runs have the budget that `oubliette erase` gives them (a preset's, times the number of concepts). With
--single, single runs are read from a leaderboard's file, which has the same presets. A cell written when the
floor was the judge's rate on the anchor's prompts is ruled again: the base draws what that takes. The table
goes to stdout as markdown: leakage and what was kept of the base's accuracy, in percent, the mean over a
kind's runs.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

from oubliette.api import erase, load
from oubliette.data.concept import Concept
from oubliette.eval.evaluate import compare
from oubliette.eval.pictures.sampling import Sampling
from oubliette.eval.rerule import is_old, rerule
from oubliette.eval.result import Evaluation
from oubliette.eval.sample_store import SampleStore
from oubliette.world import facts

#: Every trained eraser of pictures by its preset, quickest first; the name is the leaderboard's.
TRAINED = {
    "hirm": "HiRM",
    "fmn": "Forget-Me-Not",
    "erasediff": "EraseDiff",
    "salun": "SalUn",
    "doco": "DoCo",
    "ablation": "Concept Ablation",
    "ablation-hellinger": "Concept Ablation (Hellinger)",
    "receler": "Receler",
    "advunlearn": "AdvUnlearn",
    "esd-x": "ESD-x",
    "esd-u": "ESD-u",
    "spm": "SPM",
    "stereo": "STEREO",
}
Figures = dict[str, dict[str, Any]]  # by concept: leakage in-set and withheld, kept, updates, seconds


def concepts(arguments: argparse.Namespace) -> list[Concept]:
    table = facts.DEVELOPMENT_CONCEPTS if arguments.development else facts.DEFAULT_CONCEPTS
    return [Concept(name, anchor, kind) for name, anchor, kind in table]


def cell(arguments: argparse.Namespace, method: str, wanted: list[Concept], seed: int) -> Figures:
    """The figures of one erasure of all that is wanted, from its folder if they are there."""
    name = "joint" if len(wanted) > 1 else wanted[0].name.replace(" ", "-")
    folder = arguments.out / "cells" / f"{method}-{name}-{seed}"
    if not (folder / "figures.json").is_file():
        base, model = load("nano"), load("nano")
        result = erase(
            model,
            [c.name for c in wanted],
            [c.anchor for c in wanted],
            kind=[c.kind for c in wanted],
            method=method,
            seed=seed,
            overrides=arguments.set,
            show_progress=False,
        )
        evaluation = compare(
            {"erased": model},
            base,
            wanted,
            n=arguments.n,
            each=arguments.each,
            seed=1000 + seed,
            cache=arguments.out / "pictures",
            sampling=Sampling(steps=15, guidance=3.0),
        )
        folder.mkdir(parents=True, exist_ok=True)
        evaluation.write(folder / "evaluation.json")
        spent = {"updates": result.recipe.train.steps, "seconds": result.seconds}
        (folder / "figures.json").write_text(json.dumps(spent))
        print(f"{folder.name}: {sum(result.seconds.values()):.0f} s", file=sys.stderr)
    return figures(folder, arguments.out / "pictures")


def figures(folder: Path, pictures: Path) -> Figures:
    """What a cell's folder holds, by concept; figures whose floor is the anchor's rate are ruled again."""
    evaluation = Evaluation.from_json((folder / "evaluation.json").read_text())
    if is_old(evaluation):
        evaluation = rerule(evaluation, load("nano"), cache=SampleStore(pictures))
        evaluation.write(folder / "evaluation.json")
        print(f"{folder.name}: ruled again with the floor where the concept is absent", file=sys.stderr)
    spent = json.loads((folder / "figures.json").read_text())
    found: Figures = {}
    for row in evaluation.models[0].concepts:
        leaks = {leak.split: leak for leak in row.leakage if leak.judge == row.judge}
        found[row.name] = {
            "kind": row.kind,
            **{split: leak.leakage.value for split, leak in leaks.items() if leak.leakage is not None},
            "kept": mean(list(row.utility.left.values())) if row.utility is not None else None,
            "updates": spent["updates"],
            "seconds": sum(spent["seconds"].values()),
        }
    return found


def single_of(path: Path, method: str) -> list[Figures]:
    """A method's runs on the default concepts in a leaderboard's file."""
    default = {name for name, _, _ in facts.DEFAULT_CONCEPTS}
    return [
        {
            found["concept"]: {
                "kind": found["kind"],
                **found["leakage"],
                "kept": mean(list(found["kept"].values())),
            }
        }
        for found in json.loads(path.read_text())["cells"]
        if found["subject"] == TRAINED[method] and found["concept"] in default
    ]


def mean(values: list[float]) -> float:
    return sum(values) / len(values)


def line(method: str, arm: str, runs: list[Figures]) -> str:
    """A row of the table: leakage in-set / withheld and kept of each kind, and how many runs they are of."""
    cells = []
    for kind in ("object", "style", "person"):
        own: dict[str, list[float]] = defaultdict(list)
        for run in runs:
            for found in run.values():
                if found["kind"] == kind:
                    for name in ("in-set", "withheld", "kept"):
                        if found.get(name) is not None:
                            own[name].append(100 * found[name])
        shown = " / ".join(
            f"{max(mean(own[name]), 0.0):.0f}" for name in ("in-set", "withheld", "kept") if own[name]
        )
        cells.append(f"{shown or '–'} ({len(own['kept'])})")
    return f"| {TRAINED[method]} | {arm} | " + " | ".join(cells) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--methods", nargs="+", default=list(TRAINED), choices=list(TRAINED))
    parser.add_argument("--arms", nargs="+", default=["joint", "single"], choices=["joint", "single"])
    parser.add_argument("--single", type=Path, help="a leaderboard's file to read single runs from")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1])
    parser.add_argument("--n", type=int, default=40, help="pictures of a concept and split")
    parser.add_argument("--each", type=int, default=4, help="pictures of every other concept")
    parser.add_argument("--development", action="store_true", help="tune here, never report")
    parser.add_argument("--set", action="append", default=[], help="an override of every recipe, a.b=c")
    arguments = parser.parse_args()
    started = time.monotonic()
    wanted, lines = concepts(arguments), []
    for method in arguments.methods:
        runs: dict[str, list[Figures]] = {"joint": [], "single": []}
        for seed in arguments.seeds:
            if "joint" in arguments.arms:
                runs["joint"].append(cell(arguments, method, wanted, seed))
            if "single" in arguments.arms:
                runs["single"] += [cell(arguments, method, [concept], seed) for concept in wanted]
        if arguments.single is not None:
            runs["single"] += single_of(arguments.single, method)
        lines += [line(method, arm, found) for arm, found in runs.items() if found]
    kinds = [f"{c.name}: in-set / withheld / kept, % (runs)" for c in wanted]
    print("| method | erased | " + " | ".join(kinds) + " |")
    print("| --- | --- | " + " | ".join("---" for _ in kinds) + " |")
    print("\n".join(lines))
    print(f"{time.monotonic() - started:.0f} s", file=sys.stderr)


if __name__ == "__main__":
    main()
