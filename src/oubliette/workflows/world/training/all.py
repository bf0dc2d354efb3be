"""Trains the embedded models from nothing: `oubliette world train`. Every stage resumes from the cache
folder.

Stages, each of which needs those before it: tokenizer, vae, text, oracle, judge, stem, nano, gold, ship.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from oubliette.core.errors import UserError, suggest
from oubliette.workflows.world.training.artefacts import save_clip, save_oracle
from oubliette.workflows.world.training.run import fork
from oubliette.world import batch as B
from oubliette.world import facts, tokens

STEPS = {"vae": 5200, "text": 1000, "oracle": 2600, "judge": 2800, "stem": 1000, "nano": 4000, "gold": 4000}
DEFAULTS = tuple(name for name, _, _ in facts.DEFAULT_CONCEPTS)


class Trainer:
    """The stages over one cache folder; a finished stage is not run again."""

    def __init__(self, cache: Path, steps: dict[str, int] | None = None) -> None:
        self.cache, self.steps = cache, STEPS | (steps or {})

    @lru_cache(maxsize=1)  # noqa: B019 - a trainer lives as long as the process
    def tokenizer(self) -> Any:
        folder = self.cache / "tok"
        if (folder / "vocab.json").exists():
            return tokens.load(folder)
        items = B.scenes(B.Pool.everything(), 20000, 99)
        return tokens.build(folder, B.captions(items, 99, empty=0.0))

    def vae(self) -> Any:
        from diffusers import AutoencoderKL

        from oubliette.workflows.world.training.vae import train_vae

        out = self.cache / "vae" / "out"
        if not out.exists():
            pool = B.Pool.everything()
            train_vae(
                self.cache / "vae",
                lambda step, n: B.to_tensor(B.pictures(B.scenes(pool, n, step * 7 + 1))),
                steps=self.steps["vae"],
            ).save_pretrained(out)
        return AutoencoderKL.from_pretrained(out).eval()

    def _captioned(self, pool: B.Pool) -> Callable[[int, int], tuple[Tensor, list[str]]]:
        labelled = self._labelled(pool)
        return lambda step, n: labelled(step, n)[:2]

    def _labelled(self, pool: B.Pool) -> Callable[[int, int], tuple[Tensor, list[str], dict[str, Tensor]]]:
        def draw(step: int, n: int) -> tuple[Tensor, list[str], dict[str, Tensor]]:
            items = B.scenes(pool, n, step * 11 + 5)
            captions = B.captions(items, step * 11 + 5, empty=0.02)
            return B.to_tensor(B.pictures(items)), captions, B.labels(items)

        return draw

    def text(self) -> Any:
        from transformers import CLIPTextModel

        from oubliette.workflows.world.training.clip import text_model, train_text_tower

        out = self.cache / "text" / "out"
        if not out.exists():
            tower = train_text_tower(
                self.cache / "text",
                self._captioned(B.Pool.known()),
                self.tokenizer(),
                steps=self.steps["text"],
            )
            text_model(tower).save_pretrained(out)
        return CLIPTextModel.from_pretrained(out).eval()

    def oracle(self) -> Path:
        from oubliette.workflows.world.training.oracle import train_oracle

        out = self.cache / "oracle" / "out"
        if not (out / "oracle.json").exists():
            vae, pool = self.vae(), B.Pool.everything()
            classes = {head: B.classes(head) for head in B.HEADS}

            def draw(step: int, n: int) -> tuple[np.ndarray, dict[str, Tensor]]:
                items = B.scenes(pool, n, step * 13 + 7)
                return B.pictures(items), B.labels(items)

            net = train_oracle(
                self.cache / "oracle",
                draw,
                classes,
                steps=self.steps["oracle"],
                batch=64,
                vae=vae,
            )
            save_oracle(out, net, classes, 64)
        return out

    def judge(self) -> Path:
        from oubliette.workflows.world.training.clip import train_judge

        out = self.cache / "judge" / "out"
        if not (out / "open_clip_config.json").exists():
            self.tokenizer().save_pretrained(self.cache / "tok")
            model, config = train_judge(
                self.cache / "judge",
                self._labelled(B.Pool.everything()),
                self.cache / "tok",
                {head: len(B.classes(head)) for head in B.HEADS},
                steps=self.steps["judge"],
            )
            save_clip(out, model, config, self.tokenizer())
        return out

    def _latents(self, name: str, pool: B.Pool, n: int, seed: int) -> Any:
        from oubliette.workflows.world.training.latents import make_latents

        def draw(index: int, size: int) -> tuple[np.ndarray, list[list[str]]]:
            items = B.scenes(pool, size, seed + index)
            columns = [B.captions(items, seed + index + k, empty=0.0) for k in range(4)]
            return B.pictures(items), [list(row) for row in zip(*columns, strict=True)]

        return make_latents(
            self.cache / f"{name}.safetensors", self.vae(), self.text(), self.tokenizer(), draw, n=n
        )

    def _branch(self, stage: str, *, knows_defaults: bool) -> Path:
        from oubliette.workflows.world.training.unet import train_unet

        out = self.cache / stage / "out"
        if not out.exists():
            if stage != "stem":
                fork(self.stem(), self.cache / stage)
            data = (
                self._latents("lat-nano", B.Pool.known(), 24000, 9_000_000)
                if knows_defaults
                else self._latents("lat-gold", B.Pool.known(without=DEFAULTS), 20000, 5_000_000)
            )
            train_unet(
                self.cache / stage, data, steps=self.steps[stage], total=self.steps["nano"]
            ).save_pretrained(out)
        return self.cache / stage

    def stem(self) -> Path:
        return self._branch("stem", knows_defaults=False)

    def nano(self) -> Path:
        return self._branch("nano", knows_defaults=True)

    def gold(self) -> Path:
        return self._branch("gold", knows_defaults=False)

    def ship(self, out: Path) -> Path:
        from oubliette.workflows.world.training.ship import ship

        return ship(self, out)


STAGES = ("tokenizer", "vae", "text", "oracle", "judge", "stem", "nano", "gold")


def check_stages(what: Sequence[str]) -> None:
    """UserError where one of the names is no stage's."""
    for name in what:
        if name not in STAGES:
            raise UserError(f"unknown training stage {name!r}; {suggest(name, STAGES)}")


def train_models(
    what: Sequence[str], cache: Path, out: Path | None = None, *, steps: dict[str, int] | None = None
) -> None:
    """Runs the named stages (all of them when none is named), then ships to `out` when it is given."""
    check_stages(what)
    trainer = Trainer(Path(cache), steps)
    for stage in what or STAGES:
        getattr(trainer, stage)()
    if out is not None:
        trainer.ship(Path(out))
