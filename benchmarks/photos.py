"""The erasing line on real photographs: a model of its own is trained on a labelled set, then made to forget.

    python benchmarks/photos.py --data ../shared/data/cifar10 --out runs/photos
    python benchmarks/photos.py --steps vae=600 unet=2000 --methods uce --seeds 0

Training and every cell (one erasure, one evaluation) are kept in --out, so that a killed run goes on where
it was. The judge is trained on the set's own photographs; its accuracy on the test part is stated. Tables go
to stdout as markdown, grids to --out as PNG. A weak base follows its prompts less often than the judge is
right, so only ratios to the base say something of an erasure.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from oubliette.backends import open_model
from oubliette.core.errors import UserError
from oubliette.core.manifest import write_json
from oubliette.data.concept import Concept
from oubliette.data.prompts import load_bank
from oubliette.erase.run import erase
from oubliette.eval.evaluate import compare
from oubliette.eval.judge import open_judge
from oubliette.eval.pictures.sampling import Sampling
from oubliette.eval.result import Evaluation
from oubliette.recipe import load_recipe
from oubliette.workflows.world.training.picture_trainer import STEPS
from oubliette.workflows.world.training.pictures import planned_seconds, train_on_pictures
from photos_tables import BASE, base_table, tables

GROUPS = {
    "animal": ["bird", "cat", "deer", "dog", "frog", "horse"],
    "vehicle": ["airplane", "automobile", "ship", "truck"],
}
#: Concept, anchor, near neighbour.
CONCEPTS = [("horse", "animal", "deer"), ("ship", "vehicle", "airplane")]
#: Seconds on two cores: one erasure by method, one picture.
ERASING = {"uce": 5, "ablation": 150, "doco": 300}
DRAWING = 0.11
COLUMNS, SCALE, MARGIN = 10, 2, 96


class Bench:
    """The trained base in `--out/base` and what is measured of it."""

    def __init__(self, arguments: argparse.Namespace, facts: dict[str, Any]) -> None:
        self.arguments, self.facts = arguments, facts
        self.folder = arguments.out / "base"
        self.bank = load_bank(self.folder / "bank.txt")
        self.judges = [open_judge(str(self.folder / name)) for name in ("oracle", "clip")]
        self.sampling = Sampling(steps=arguments.sampling_steps, guidance=arguments.guidance)
        broader = {name: word for word, names in facts["groups"].items() for name in names}
        self.everything = [Concept(name, broader.get(name, "object")) for name in facts["classes"]]

    def open(self) -> Any:
        """The base, fresh."""
        return open_model(str(self.folder / "model"))

    def cell(
        self, concept: Concept, near: str, method: str, seed: int
    ) -> tuple[Evaluation, dict[str, float]]:
        """One erasure and its evaluation beside the base, kept in files; "base" is the base alone."""
        path = self.arguments.out / f"{method}-{concept.name}-{seed}.json"
        run_path, strip_path = path.with_suffix(".run.json"), path.with_suffix(".strip.png")
        settings = self.settings(near)
        if path.exists():  # written last: a cell with this file is whole
            run = json.loads(run_path.read_text())
            if run["settings"] != settings:
                raise UserError(f"{path}: was made with other settings; choose another --out or remove it")
            return Evaluation.from_json(path.read_text()), run["seconds"]
        model, seconds = self.open(), {"prepare": 0.0, "optimise": 0.0}
        if method != BASE:
            recipe = load_recipe(
                f"{method}-nano",
                [
                    f"model={self.folder / 'model'}",
                    f"seed={seed}",
                    f"data.bank={self.folder / 'bank.txt'}",
                    *self.arguments.set,
                    f"concepts=[{{name: {concept.name}, anchor: {concept.anchor}}}]",
                ],
            )
            seconds = erase(model, recipe, cache=self.arguments.out / "latents", show_progress=False).seconds
        evaluation = compare(
            {"erased": model},
            self.open(),
            [concept],
            judges=self.judges,
            n=self.arguments.n,
            each=self.arguments.each,
            near_n=self.arguments.each,
            seed=1000 + seed,
            cache=self.arguments.out / "pictures",
            retained=self.everything,
            near={concept.name: near},
            bank=self.bank,
            sampling=self.sampling,
        )
        self.strip(model, concept).save(strip_path)
        write_json(run_path, {"settings": settings, "seconds": seconds})
        evaluation.write(path)
        return evaluation, seconds

    def settings(self, near: str) -> dict[str, Any]:
        """What a cell depends on besides its name."""
        names = ("n", "each", "sampling_steps", "guidance", "set")
        return {"near": near} | {name: getattr(self.arguments, name) for name in names}

    def strip(self, model: Any, concept: Concept) -> Image.Image:
        """A row of pictures of the concept and a row of everything else, on seeds that all models share."""
        others = [c.name for c in self.everything if c.name != concept.name]
        rows = [[concept.name] * COLUMNS, [others[i % len(others)] for i in range(COLUMNS)]]
        prompts = [f"a photo of a {name}" for row in rows for name in row]
        seeds = [*range(COLUMNS), *range(COLUMNS)]
        pictures = model.draw(
            prompts, seeds, steps=self.sampling.steps, guidance=self.sampling.guidance, batch=len(prompts)
        )
        lines = [np.concatenate(pictures[i : i + COLUMNS], axis=1) for i in (0, COLUMNS)]
        sheet = Image.fromarray(np.concatenate(lines))
        return sheet.resize((sheet.width * SCALE, sheet.height * SCALE), Image.Resampling.NEAREST)


def grid(strips: list[tuple[str, Path]], out: Path) -> None:
    """Strips above one another, each with its name at the left."""
    opened = [(name, Image.open(path).convert("RGB")) for name, path in strips]
    gap = 6
    height = sum(image.height + gap for _, image in opened)
    sheet = Image.new("RGB", (MARGIN + opened[0][1].width, height), "white")
    top = 0
    for name, image in opened:
        sheet.paste(image, (MARGIN, top))
        ImageDraw.Draw(sheet).text((6, top + image.height // 2 - 6), name, fill="black")
        top += image.height + gap
    sheet.save(out)


def plan(arguments: argparse.Namespace, concepts: list[tuple[str, str, str]]) -> None:
    """The planned times of what follows, on two cores."""
    training = sum(planned_seconds(arguments.steps, arguments.size).values())
    each = 3 * arguments.n + 9 * arguments.each
    drawing = DRAWING * each * len(concepts) * len(arguments.seeds) * (1 + len(arguments.methods))
    erasing = sum(ERASING.get(m, 300) for m in arguments.methods) * len(concepts) * len(arguments.seeds)
    print(
        f"planned on 2 cores: training {training / 60:.0f} min, erasing {erasing / 60:.0f} min, "
        f"drawing {drawing / 60:.0f} min; {(training + erasing + drawing) / 60:.0f} min in all",
        file=sys.stderr,
        flush=True,
    )


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=Path("../shared/data/cifar10"))
    parser.add_argument("--out", type=Path, default=Path("runs/photos"))
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--steps", nargs="*", default=[], help=f"stage=steps for any of {', '.join(STEPS)}")
    parser.add_argument("--methods", nargs="+", default=["uce", "ablation", "doco"])
    parser.add_argument(
        "--concepts", nargs="*", default=[], help="name:anchor:neighbour; horse and ship if none"
    )
    parser.add_argument("--groups", type=Path, help="JSON of broader words; CIFAR-10's by default")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--n", type=int, default=100, help="pictures a concept and split")
    parser.add_argument("--each", type=int, default=40, help="pictures of every other class")
    parser.add_argument("--sampling-steps", type=int, default=20)
    parser.add_argument("--guidance", type=float, default=3.0)
    parser.add_argument("--set", action="append", default=[], help="an override of every recipe, a.b=c")
    arguments = parser.parse_args()
    arguments.steps = {name: int(count) for name, _, count in (s.partition("=") for s in arguments.steps)}
    return arguments


def main() -> None:
    arguments = parse()
    if not arguments.data.exists():
        raise UserError(f"{arguments.data}: no photographs there; give a labelled picture set with --data")
    concepts = [tuple(text.split(":")) for text in arguments.concepts] or CONCEPTS
    plan(arguments, concepts)
    base = arguments.out / "base"
    if not base.exists():
        groups = json.loads(arguments.groups.read_text()) if arguments.groups else GROUPS
        train_on_pictures(
            arguments.data,
            base,
            arguments.out / "cache",
            side=arguments.size,
            steps=arguments.steps,
            groups=groups,
        )
    facts = json.loads((base / "classes.json").read_text())
    if facts["steps"] != STEPS | arguments.steps:
        raise UserError(f"{base}: was trained with steps {facts['steps']}; choose another --out or remove it")
    bench = Bench(arguments, facts)
    started, cells, evaluations = time.monotonic(), {}, {}
    for name, anchor, near in concepts:
        concept = Concept(name, anchor)
        evaluations[name], _ = bench.cell(concept, near, BASE, arguments.seeds[0])
        for method in arguments.methods:
            for seed in arguments.seeds:
                cells[name, method, seed] = bench.cell(concept, near, method, seed)
                print(
                    f"{time.monotonic() - started:.0f} s {method} {name} {seed}", file=sys.stderr, flush=True
                )
        strips = [
            (method, arguments.out / f"{method}-{name}-{arguments.seeds[0]}.strip.png")
            for method in (BASE, *arguments.methods)
        ]
        grid(strips, arguments.out / f"grid-{name}.png")
    base_table(bench.facts, evaluations)
    tables(bench.facts["classes"], cells)


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        print(f"photos: {error}", file=sys.stderr)
        raise SystemExit(2) from None
