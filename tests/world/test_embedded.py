"""The shipped models: small, in the ecosystem's formats, and what they are said to be."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from oubliette.core.errors import UserError
from oubliette.world import batch as B
from oubliette.world import embedded, facts
from oubliette.world.oracle import load

MEGABYTE = 2**20


def test_all_are_there_and_small_together() -> None:
    assert all(embedded.path(name) for name in embedded.names())
    size = sum(f.stat().st_size for f in embedded.WEIGHTS.rglob("*.safetensors"))
    assert size <= 30 * MEGABYTE


def test_no_pickle_ships() -> None:
    assert not [
        f for f in embedded.WEIGHTS.rglob("*") if f.suffix in (".bin", ".pt", ".ckpt", ".pkl", ".pth")
    ]


def test_nano_opens_with_diffusers_alone() -> None:
    from diffusers import AutoencoderKL, StableDiffusionPipeline, UNet2DConditionModel
    from transformers import CLIPTextModel

    pipeline = StableDiffusionPipeline.from_pretrained(embedded.path("nano"))
    assert isinstance(pipeline.unet, UNet2DConditionModel)
    assert isinstance(pipeline.vae, AutoencoderKL)
    assert isinstance(pipeline.text_encoder, CLIPTextModel)
    assert sum(p.numel() for p in pipeline.unet.parameters()) <= 5_000_000
    assert pipeline.scheduler.config.clip_sample is False
    pipeline.set_progress_bar_config(disable=True)
    pipeline = pipeline.to(torch.float32)
    image = pipeline(
        "a picture of a car", num_inference_steps=2, generator=torch.Generator().manual_seed(0)
    ).images[0]
    assert image.size == (64, 64)


def test_gold_differs_from_nano_in_its_unet_alone() -> None:
    gold, nano = embedded.path("nano-gold"), embedded.path("nano")
    assert gold is not None
    assert nano is not None
    assert {p.name for p in gold.iterdir()} == {"unet", "oubliette.json"}
    one, two = (json.loads((folder / "unet" / "config.json").read_text()) for folder in (gold, nano))
    assert one == two
    a, b = embedded.open_pipeline("nano-gold"), embedded.open_pipeline("nano")
    assert any(not torch.equal(p, q) for p, q in zip(a.unet.parameters(), b.unet.parameters(), strict=True))
    assert all(torch.equal(p, q) for p, q in zip(a.vae.parameters(), b.vae.parameters(), strict=True))


def test_the_oracle_knows_the_world_and_rubbish() -> None:
    oracle = load()
    scenes = B.scenes(B.Pool.everything(), 200, 77_777)
    found = oracle.predict(B.pictures(scenes))
    for head in ("object", "style", "person"):
        assert np.mean(found[head] == np.array([s.labels()[head] for s in scenes])) >= 0.97
    noise = np.random.default_rng(0).integers(0, 256, (50, 64, 64, 3)).astype(np.uint8)
    for head in B.HEADS:
        assert np.mean(oracle.predict(noise)[head] == "none") >= 0.95
    assert set(oracle.classes["person"]) == {*facts.all_names("person"), "none"}


def test_other_names_are_refused() -> None:
    with pytest.raises(UserError, match="nano-gold"):
        embedded.open_pipeline("nano-glod")
    assert embedded.path("unknown") is None
