"""Trials of an eraser of language models on the development forget set, a line each.

    python benchmarks/nano_lm_presets.py --preset npo --out runs/npo-trials.jsonl \
        "train.steps=60" "train.steps=120"

Each trial is a set of overrides over the preset. Said of the model after it: open answers on the forget set
in seen and withheld wordings, choices by likelihood, and open answers on an eighth of the common facts.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

from oubliette.backends import open_model
from oubliette.erase.run import erase
from oubliette.workflows.compose import compose
from oubliette.workflows.order import Order
from oubliette.workflows.world.check_text import Probe, share
from oubliette.workflows.world.text import write_text_world
from oubliette.world.text.entities import make_world


def main() -> None:
    """Run the trials named on the command line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--preset", required=True)
    parser.add_argument("--model", default="nano-lm")
    parser.add_argument("--forget", default="development")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("trials", nargs="+")
    asked = parser.parse_args()
    world = make_world()
    gone, kept = world.facts(asked.forget), world.facts("common")[::8]  # type: ignore[arg-type]
    folder = write_text_world(Path(tempfile.mkdtemp()) / "facts", forget=asked.forget)
    for trial in asked.trials:
        model = open_model(asked.model)
        files = {name: folder / f"{name}.jsonl" for name in ("forget", "retain")}
        recipe = compose(model, Order(preset=asked.preset, **files, overrides=tuple(trial.split())))
        start = time.perf_counter()
        result = erase(model, recipe, show_progress=False)
        probe = Probe(model, world)  # type: ignore[arg-type]
        row = {
            "preset": asked.preset,
            "trial": trial,
            "seconds": round(time.perf_counter() - start, 1),
            "forget": round(share(probe.seen(gone)), 3),
            "withheld": round(share(probe.withheld(gone)), 3),
            "choices": round(share(probe.choices(gone)), 3),
            "kept": round(share(probe.seen(kept)), 3),
            "said": model.respond([f"What is the {f.attribute.noun} of {f.entity.name}?" for f in gone[:4]]),  # type: ignore[attr-defined]
            "loss": {key: value for key, value in result.log[-1].items() if isinstance(value, float)},
        }
        with asked.out.open("a") as handle:
            handle.write(json.dumps(row) + "\n")
        print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
