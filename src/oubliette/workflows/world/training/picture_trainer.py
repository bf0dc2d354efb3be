"""The stages that make a text-to-image model, its CLIP and its judge of a labelled picture set, as nano was
made: tokenizer, vae, text, oracle, judge, latents, unet."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from oubliette.core.errors import UserError, suggest
from oubliette.core.manifest import atomic_folder, write_json
from oubliette.data.labelled import LabelledSet
from oubliette.workflows.world.training.artefacts import save_clip, save_oracle
from oubliette.workflows.world.training.class_captions import ClassCaptions
from oubliette.world import tokens
from oubliette.world.batch import to_tensor

STEPS = {"vae": 1200, "text": 500, "oracle": 1500, "judge": 500, "unet": 4500}
HEAD = "object"
#: Channels of the VAE by the pictures' side: every further stage halves it, down to latents of 8 x 8.
CHANNELS = {32: [32, 64, 96], 64: [16, 32, 64, 96], 128: [16, 32, 64, 96, 96]}
LATENT_CHANNELS = 4
UNET_CHANNELS = [96, 160]
CAPTIONS_EACH = 6
VAE_BATCH = 32


def oracle_shape(side: int) -> dict[str, Any]:
    """The judge's network for photographs: wider than the picture world's, and at 32 px a first stage that
    keeps the side."""
    return {"widths": [32, 64, 128, 192], "first_stride": 1 if side <= 32 else 2}


class PictureTrainer:
    """The stages over one cache folder and one labelled set; a finished stage is not run again.

    Raises UserError where the cache belongs to another set, another seed or other groups.
    """

    def __init__(
        self,
        cache: Path,
        data: LabelledSet,
        *,
        steps: Mapping[str, int] | None = None,
        seed: int = 0,
        groups: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        for stage in steps or {}:
            if stage not in STEPS:
                raise UserError(f"unknown training stage {stage!r}; {suggest(stage, list(STEPS))}")
        if data.side not in CHANNELS:
            raise UserError(f"no model is planned for pictures of {data.side} px; use one of {known_sides()}")
        self.cache, self.data, self.seed = cache, data, seed
        self.steps = STEPS | dict(steps or {})
        self.words = ClassCaptions.of(data.classes, groups)
        self.classes = {HEAD: [*data.classes, "none"]}
        self._claim_cache()

    def _claim_cache(self) -> None:
        own = {
            "data": self.data.fingerprint(),
            "seed": self.seed,
            "groups": {word: list(names) for word, names in self.words.groups.items()},
        }
        path = self.cache / "set.json"
        if path.is_file():
            if json.loads(path.read_text()) != own:
                raise UserError(
                    f"{self.cache}: this cache belongs to another picture set, size, seed or grouping; "
                    "choose another cache folder or remove this one"
                )
            return
        if self.cache.is_dir() and any(self.cache.iterdir()):
            raise UserError(f"{self.cache}: holds something else already; choose another cache folder")
        self.cache.mkdir(parents=True, exist_ok=True)
        write_json(path, own)

    def _rng(self, salt: int, step: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, salt, step])

    def _draw(self, rng: np.random.Generator, n: int, shift: int = 0) -> tuple[np.ndarray, np.ndarray]:
        """Pictures uint8 (n, side, side, 3), half of them mirrored, moved by up to `shift` pixels; and their
        class numbers."""
        chosen = rng.integers(len(self.data.labels), size=n)
        pictures = self.data.pictures[chosen]
        mirrored = rng.random(n) < 0.5
        pictures[mirrored] = pictures[mirrored, :, ::-1]
        if shift:
            side = self.data.side
            wide = np.pad(pictures, ((0, 0), (shift, shift), (shift, shift), (0, 0)), mode="reflect")
            corners = rng.integers(0, 2 * shift + 1, size=(n, 2))
            pictures = np.stack(
                [p[y : y + side, x : x + side] for p, (y, x) in zip(wide, corners, strict=True)]
            )
        return pictures, self.data.labels[chosen]

    def _captioned(self, salt: int) -> Callable[[int, int], tuple[Tensor, list[str]]]:
        labelled = self._labelled(salt)
        return lambda step, n: labelled(step, n)[:2]

    def _labelled(self, salt: int) -> Callable[[int, int], tuple[Tensor, list[str], dict[str, Tensor]]]:
        def draw(step: int, n: int) -> tuple[Tensor, list[str], dict[str, Tensor]]:
            rng = self._rng(salt, step)
            pictures, labels = self._draw(rng, n)
            captions = [self.words.caption(self.data.classes[i], rng) for i in labels]
            return to_tensor(pictures), captions, {HEAD: torch.from_numpy(labels)}

        return draw

    def tokenizer(self) -> Any:
        folder = self.cache / "tok"
        if (folder / "merges.txt").exists():
            return tokens.load(folder)
        return tokens.build(folder, self.words.everything())

    def vae(self) -> Any:
        from diffusers import AutoencoderKL

        from oubliette.workflows.world.training.vae import CONFIG, train_vae

        out, channels = self.cache / "vae" / "out", CHANNELS[self.data.side]
        if not out.exists():
            config = CONFIG | {
                "down_block_types": ["DownEncoderBlock2D"] * len(channels),
                "up_block_types": ["UpDecoderBlock2D"] * len(channels),
                "block_out_channels": channels,
                "latent_channels": LATENT_CHANNELS,
                "sample_size": self.data.side,
            }
            vae = train_vae(
                self.cache / "vae",
                lambda step, n: to_tensor(self._draw(self._rng(0, step), n)[0]),
                steps=self.steps["vae"],
                batch=VAE_BATCH,
                config=config,
                seed=self.seed,
            )
            _save(vae, out)
        return AutoencoderKL.from_pretrained(out).eval()

    def text(self) -> Any:
        from transformers import CLIPTextModel

        from oubliette.workflows.world.training.clip import text_model, train_text_tower

        out = self.cache / "text" / "out"
        if not out.exists():
            tower = train_text_tower(
                self.cache / "text",
                self._captioned(1),
                self.tokenizer(),
                steps=self.steps["text"],
                seed=self.seed + 1,
            )
            _save(text_model(tower), out)
        return CLIPTextModel.from_pretrained(out).eval()

    def oracle(self) -> Path:
        from oubliette.workflows.world.training.oracle import train_oracle

        out, shape = self.cache / "oracle" / "out", oracle_shape(self.data.side)
        if not (out / "oracle.json").exists():
            vae = self.vae()

            def draw(step: int, n: int) -> tuple[np.ndarray, dict[str, Tensor]]:
                pictures, labels = self._draw(self._rng(3, step), n, shift=self.data.side // 10)
                return pictures, {HEAD: torch.from_numpy(labels)}

            net = train_oracle(
                self.cache / "oracle",
                draw,
                self.classes,
                steps=self.steps["oracle"],
                batch=128,
                seed=self.seed + 3,
                vae=vae,
                shape=shape,
            )
            save_oracle(out, net, self.classes, self.data.side, shape)
        return out

    def judge(self) -> Path:
        from oubliette.workflows.world.training.clip import train_judge

        out = self.cache / "judge" / "out"
        if not (out / "open_clip_config.json").exists():
            tokenizer = self.tokenizer()
            tokenizer.save_pretrained(self.cache / "tok")
            model, config = train_judge(
                self.cache / "judge",
                self._labelled(2),
                self.cache / "tok",
                {HEAD: len(self.data.classes)},
                side=self.data.side,
                steps=self.steps["judge"],
                seed=self.seed + 2,
            )
            save_clip(out, model, config, tokenizer)
        return out

    def latents(self) -> Any:
        """The denoiser's training set: every picture and its mirror image, six captions each."""
        from oubliette.workflows.world.training.latents import make_latents

        count = len(self.data.labels)

        def draw(index: int, size: int) -> tuple[np.ndarray, list[list[str]]]:
            places = np.arange(index, index + size)
            pictures = self.data.pictures[places % count]
            pictures[places >= count] = pictures[places >= count, :, ::-1]
            rng = self._rng(4, index)
            names = [self.data.classes[label] for label in self.data.labels[places % count]]
            return pictures, [[self.words.caption(name, rng) for _ in range(CAPTIONS_EACH)] for name in names]

        path = self.cache / "latents.safetensors"
        return make_latents(path, self.vae(), self.text(), self.tokenizer(), draw, n=2 * count)

    def unet(self) -> Any:
        from diffusers import UNet2DConditionModel

        from oubliette.workflows.world.training.unet import CONFIG, train_unet

        out = self.cache / "unet" / "out"
        if not out.exists():
            config = CONFIG | {
                "in_channels": LATENT_CHANNELS,
                "out_channels": LATENT_CHANNELS,
                "block_out_channels": UNET_CHANNELS,
            }
            unet = train_unet(
                self.cache / "unet",
                self.latents(),
                steps=self.steps["unet"],
                seed=self.seed + 4,
                config=config,
            )
            _save(unet, out)
        return UNet2DConditionModel.from_pretrained(out).eval()


def _save(model: Any, out: Path) -> None:
    """`save_pretrained` so that a killed run leaves no half-written folder behind."""
    with atomic_folder(out) as draft:
        model.save_pretrained(draft)


def known_sides() -> str:
    """The sides of pictures that a model is planned for, for messages."""
    return ", ".join(map(str, CHANNELS))
