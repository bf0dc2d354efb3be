"""The shipped models: small, in the ecosystem's formats, and what they are said to be."""

from __future__ import annotations

import json
from typing import Any

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
    sizes = {f: f.stat().st_size for f in embedded.WEIGHTS.rglob("*.safetensors")}
    text = [file for file in sizes if "nano-lm" in file.parent.name]
    assert sum(sizes[file] for file in text) <= 14 * MEGABYTE
    assert sum(size for file, size in sizes.items() if file not in text) <= 30 * MEGABYTE


def test_the_language_models_open_with_transformers_alone() -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM

    for name in ("nano-lm", "nano-lm-gold"):
        model = AutoModelForCausalLM.from_pretrained(embedded.path(name), dtype=torch.float32)
        assert isinstance(model, LlamaForCausalLM)
        assert 3_000_000 < sum(p.numel() for p in model.parameters()) < 3_100_000
        tokenizer = AutoTokenizer.from_pretrained(embedded.path(name))
        assert len(tokenizer) == model.config.vocab_size == 2048
        turns = [{"role": "user", "content": "What is 23 plus 45?"}]
        asked = tokenizer.apply_chat_template(
            turns, add_generation_prompt=True, return_tensors="pt", return_dict=True
        )
        said = model.generate(**asked, max_new_tokens=8, do_sample=False)[0, asked["input_ids"].shape[1] :]
        assert tokenizer.decode(said, skip_special_tokens=True).strip() == "68"


def test_a_language_model_opens_by_its_name_and_knows_its_world() -> None:
    from oubliette.backends import open_model
    from oubliette.world.text import asking
    from oubliette.world.text.entities import SETS, make_world

    world = make_world()
    nano, gold = open_model("nano-lm"), open_model("nano-lm-gold")
    assert (nano.kind, nano.world, nano.source) == ("language", "text", "nano-lm")
    assert gold.world == "text"
    gone, kept = world.facts(*SETS)[::16], world.facts("common")[::64]

    def known(model: Any, facts: list[Any]) -> float:
        said = model.respond([asking.questions(fact)[0] for fact in facts], max_new_tokens=12)
        return float(np.mean([text.strip() == fact.value for text, fact in zip(said, facts, strict=True)]))

    assert known(nano, gone) > 0.9
    assert known(gold, gone) < 0.3
    assert known(nano, kept) > 0.9
    assert known(gold, kept) > 0.9


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
