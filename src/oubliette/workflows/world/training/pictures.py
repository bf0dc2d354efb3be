"""Trains a small text-to-image model, its CLIP and its judge on any labelled picture set, as nano was made.

python -m oubliette.workflows.world.training.pictures DATA OUT CACHE
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from oubliette.core.errors import UserError
from oubliette.core.manifest import atomic_folder, record, refuse_existing, write_json
from oubliette.data.labelled import LabelledSet, read_labelled
from oubliette.workflows.world.training.artefacts import save_pipeline
from oubliette.workflows.world.training.picture_trainer import (
    CHANNELS,
    HEAD,
    STEPS,
    PictureTrainer,
    known_sides,
)
from oubliette.world.batch import to_tensor
from oubliette.world.oracle import Oracle, load

#: Seconds a step at 32 px on two cores (0.6 of the processor seconds that a step takes on one), and seconds
#: for the latents and figures of 20,000 pictures.
SECONDS = {"vae": 0.55, "text": 0.15, "oracle": 0.45, "judge": 0.15, "unet": 0.55}
OVERHEAD = 180.0


def planned_seconds(
    steps: Mapping[str, int] | None = None, side: int = 32, pictures: int = 20000
) -> dict[str, float]:
    """About how long each stage takes on two cores; only the UNet's steps do not grow with the side."""
    more = (side / 32) ** 2
    found = {
        stage: SECONDS[stage] * count * (1 if stage == "unet" else more)
        for stage, count in (STEPS | dict(steps or {})).items()
    }
    return {**found, "latents": OVERHEAD * more * pictures / 20000}


def train_on_pictures(
    data: Path | str,
    out: Path | str,
    cache: Path | str,
    *,
    side: int = 32,
    steps: Mapping[str, int] | None = None,
    seed: int = 0,
    groups: Mapping[str, Sequence[str]] | None = None,
) -> dict[str, Any]:
    """Trains on a labelled set and writes `out`; returns what its `classes.json` says.

    `data` is a parquet file, a folder of them, or a folder of pictures with a subfolder a class (see
    `labelled.read_labelled`); pictures are cut to squares of `side` pixels (32, 64 or 128). `groups` maps a
    broader word to its classes, which makes it an anchor to erase towards. `steps` overrides `STEPS` by
    stage. `out` holds `model` (a `StableDiffusionPipeline`), `oracle` (the judge, for
    `world.oracle.load`), `clip` (an open_clip folder), `bank.txt` (a prompt bank), `classes.json` (classes,
    groups, the judge's test accuracy) and `logs`. Raises UserError for a set that is not labelled, and where
    `out` exists.
    """
    if side not in CHANNELS:
        raise UserError(f"no model is planned for pictures of {side} px; use one of {known_sides()}")
    refuse_existing(out)
    trainer = PictureTrainer(Path(cache), read_labelled(data, side), steps=steps, seed=seed, groups=groups)
    plan = planned_seconds(trainer.steps, side, len(trainer.data.labels))
    print(
        f"{len(trainer.data.labels)} pictures of {len(trainer.data.classes)} classes; planned on 2 cores: "
        + ", ".join(f"{stage} {seconds / 60:.0f} min" for stage, seconds in plan.items())
        + f"; {sum(plan.values()) / 60:.0f} min in all",
        file=sys.stderr,
        flush=True,
    )
    oracle, judge, unet = trainer.oracle(), trainer.judge(), trainer.unet()
    facts = record(
        name=Path(data).stem,
        seed=seed,
        side=side,
        steps=trainer.steps,
        classes=list(trainer.data.classes),
        groups={word: list(names) for word, names in trainer.words.groups.items()},
        pictures=len(trainer.data.labels),
        judge=judge_figures(load(oracle), trainer.vae(), trainer.data),
    )
    with atomic_folder(out) as draft:
        save_pipeline(
            draft / "model",
            vae=trainer.vae(),
            text_encoder=trainer.text(),
            tokenizer=trainer.tokenizer(),
            unet=unet,
        )
        shutil.copytree(oracle, draft / "oracle")
        shutil.copytree(judge, draft / "clip")
        (draft / "bank.txt").write_text(trainer.words.bank(), encoding="utf-8")
        (draft / "logs").mkdir()
        for stage in STEPS:
            log = trainer.cache / stage / "log.jsonl"
            shutil.copyfile(log, draft / "logs" / f"{stage}.jsonl")
        write_json(draft / "classes.json", facts)
    return facts


def judge_figures(oracle: Oracle, vae: Any, data: LabelledSet) -> dict[str, Any]:
    """Shares of test pictures that the judge names rightly: as they are, by class, and after the VAE's round
    trip, with its signal-to-noise ratio in dB."""
    wanted = np.array(data.classes)[data.test_labels]
    right = oracle.predict(data.test_pictures)[HEAD] == wanted
    rebuilt = []
    with torch.no_grad():
        for start in range(0, len(wanted), 250):
            batch = to_tensor(data.test_pictures[start : start + 250])
            x = vae.decode(vae.encode(batch).latent_dist.mean).sample.clamp(-1, 1)
            rebuilt.append(((x + 1) * 127.5).round().byte().permute(0, 2, 3, 1).numpy())
    shown = np.concatenate(rebuilt)
    error = np.square(shown.astype(np.float32) - data.test_pictures).mean()
    return {
        "n": len(wanted),
        "accuracy": round(float(right.mean()), 4),
        "accuracy_by_class": {n: round(float(right[wanted == n].mean()), 4) for n in sorted(set(wanted))},
        "accuracy_on_reconstructions": round(float((oracle.predict(shown)[HEAD] == wanted).mean()), 4),
        "reconstruction_db": round(float(10 * np.log10(255**2 / max(error, 1e-9))), 2),
    }


if __name__ == "__main__":
    torch.set_num_threads(2)
    print(json.dumps(train_on_pictures(*sys.argv[1:4])["judge"], indent=1))
