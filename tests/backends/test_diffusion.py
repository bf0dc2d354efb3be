"""The backend draws, noises and predicts as diffusers' own pipeline does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import tiny
from oubliette.backends import open_model
from oubliette.backends.base import Backend
from oubliette.backends.diffusion import DiffusionBackend
from oubliette.backends.sampling import start_noise
from oubliette.core.errors import UserError

PROMPTS = ["a photo of a car", "a painting of a dog", ""]


@pytest.fixture(scope="module")
def model(tiny_folder: Path) -> DiffusionBackend:
    opened = open_model(tiny_folder, device="cpu")
    assert isinstance(opened, DiffusionBackend)
    return opened


def test_is_a_backend_that_knows_its_shapes(model: DiffusionBackend, tiny_folder: Path) -> None:
    assert isinstance(model, Backend)
    assert (model.kind, model.source, model.world) == ("diffusion", str(tiny_folder), None)
    assert model.latent_shape == (4, 8, 8)
    assert (model.picture_side, model.train_timesteps, model.sampler) == (16, 1000, "ddim")
    assert set(model.modules()) == {"unet", "text_encoder", "vae"}
    assert not any(p.requires_grad for p in model.tensors().values())


def test_text_facing_are_keys_and_values_of_cross_attention(model: DiffusionBackend) -> None:
    expected = [
        f"unet.{name}.{side}.weight"
        for name, module in model.pipe.unet.named_modules()
        if name.endswith("attn2")
        for side in ("to_k", "to_v")
    ]
    assert sorted(model.text_facing()) == sorted(expected)
    assert expected
    width = model.pipe.text_encoder.config.hidden_size
    assert all(model.tensors()[name].shape[1] == width for name in expected)
    groups = model.groups()
    assert set(groups["text-facing"]) < set(groups["cross-attention"]) < set(groups["denoiser"])
    assert all(name.startswith("text_encoder.") for name in groups["text-encoder"])


@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_draws_what_the_pipeline_draws(model: DiffusionBackend, tiny_pipeline: Any, guidance: float) -> None:
    start = start_noise(model.latent_shape, [3, 4, 5])
    theirs = tiny_pipeline(
        PROMPTS, latents=start, num_inference_steps=7, guidance_scale=guidance, output_type="latent"
    ).images
    ours = model.draw_latents(PROMPTS, [3, 4, 5], steps=7, guidance=guidance)
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
    pictures = tiny_pipeline(
        PROMPTS, latents=start, num_inference_steps=7, guidance_scale=guidance, output_type="np"
    ).images
    drawn = model.draw(PROMPTS, [3, 4, 5], steps=7, guidance=guidance)
    assert drawn.dtype == np.uint8
    assert np.abs(drawn - pictures * 255).max() < 1


@pytest.mark.parametrize("prediction", ["v_prediction", "sample"])
def test_other_prediction_types_draw_as_the_pipeline(prediction: str) -> None:
    pipe = tiny.pipeline(prediction, seed=1)
    start = start_noise((4, 8, 8), [8])
    theirs = pipe(PROMPTS[:1], latents=start, num_inference_steps=5, guidance_scale=2.0, output_type="latent")
    ours = DiffusionBackend.from_pipeline(pipe).draw_latents(PROMPTS[:1], [8], steps=5, guidance=2.0)
    torch.testing.assert_close(ours, theirs.images, rtol=1e-4, atol=1e-4)


def test_dpm_is_used_where_the_pipeline_uses_it() -> None:
    from diffusers import DPMSolverMultistepScheduler

    pipe = tiny.pipeline()
    pipe.scheduler = DPMSolverMultistepScheduler.from_config(pipe.scheduler.config)
    model = DiffusionBackend.from_pipeline(pipe)
    assert model.sampler == "dpm"
    start = start_noise((4, 8, 8), [8])
    theirs = pipe(PROMPTS[:1], latents=start, num_inference_steps=6, guidance_scale=2.0, output_type="latent")
    ours = model.draw_latents(PROMPTS[:1], [8], steps=6, guidance=2.0)
    torch.testing.assert_close(ours, theirs.images, rtol=1e-4, atol=1e-4)


def test_latents_are_never_clipped() -> None:
    pipe = tiny.pipeline()
    pipe.scheduler = type(pipe.scheduler).from_config(pipe.scheduler.config, clip_sample=True)
    clipped = DiffusionBackend.from_pipeline(pipe)
    plain = DiffusionBackend.from_pipeline(tiny.pipeline())
    torch.testing.assert_close(
        clipped.draw_latents(["a car"], [1], steps=4), plain.draw_latents(["a car"], [1], steps=4)
    )


def test_a_seed_starts_the_same_whatever_the_batch(model: DiffusionBackend) -> None:
    together = start_noise(model.latent_shape, [11, 12, 13])
    assert torch.equal(together[2], start_noise(model.latent_shape, [13])[0])
    one = model.draw_latents(PROMPTS, [11, 12, 13], steps=4, batch=1)
    three = model.draw_latents(PROMPTS, [11, 12, 13], steps=4, batch=3)
    torch.testing.assert_close(one, three, rtol=1e-4, atol=1e-4)
    assert np.array_equal(model.draw(["a car"], [5], steps=3), model.draw(["a car"], [5], steps=3))


def test_drawing_nothing_and_too_much(model: DiffusionBackend) -> None:
    assert model.draw([], []).shape == (0, 16, 16, 3)
    with pytest.raises(UserError, match="1001"):
        model.draw(["a car"], [1], steps=1001)
    with pytest.raises(ValueError, match="one seed a prompt"):
        model.draw(["a car"], [1, 2])


def test_progress_counts_pictures(model: DiffusionBackend) -> None:
    seen: list[tuple[int, int]] = []
    model.draw(PROMPTS, [1, 2, 3], steps=1, batch=2, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(2, 3), (3, 3)]


def test_a_trajectory_stops_where_the_sampler_would_go_on(model: DiffusionBackend) -> None:
    text = model.encode_text(PROMPTS[:2])
    start = torch.randn((2, 4, 8, 8), generator=torch.Generator().manual_seed(4))
    at_start, t = model.trajectory(text, 0, steps=10, generator=torch.Generator().manual_seed(4))
    assert torch.equal(at_start, start)
    seen: list[torch.Tensor] = []

    def keep(pipe: Any, step: int, t: torch.Tensor, kept: dict) -> dict:
        seen.append(kept["latents"].clone())
        return {}

    model.pipe(
        PROMPTS[:2],
        latents=start,
        num_inference_steps=10,
        guidance_scale=3.0,
        callback_on_step_end=keep,
        output_type="latent",
    )
    for stop in (1, 6):
        x, t = model.trajectory(text, stop, steps=10, generator=torch.Generator().manual_seed(4))
        torch.testing.assert_close(x, seen[stop - 1], rtol=1e-4, atol=1e-4)
        assert t.tolist() == [int(model.pipe.scheduler.timesteps[stop])] * 2
    assert not x.requires_grad


def test_a_flow_pipeline_draws_and_inverts() -> None:
    from diffusers import FlowMatchEulerDiscreteScheduler

    pipe = tiny.pipeline()
    pipe.scheduler = FlowMatchEulerDiscreteScheduler()
    model = DiffusionBackend.from_pipeline(pipe)
    assert (model.sampler, model.schedule.prediction) == ("flow", "flow")
    scheduler = FlowMatchEulerDiscreteScheduler()
    clean, noise = torch.randn(1, 4, 8, 8), torch.randn(1, 4, 8, 8)
    t = scheduler.timesteps[300:301]
    torch.testing.assert_close(model.add_noise(clean, noise, t), scheduler.scale_noise(clean, t, noise))
    scheduler.set_timesteps(4)
    text, x = model.encode_text(["a car"]), start_noise((4, 8, 8), [1])
    for step in scheduler.timesteps:
        x = scheduler.step(model.predict(x, step, text), step, x, return_dict=False)[0]
    torch.testing.assert_close(model.draw_latents(["a car"], [1], steps=4, guidance=1.0), x)


def test_predict_passes_gradients_and_takes_one_timestep(model: DiffusionBackend) -> None:
    text = model.encode_text(PROMPTS)
    noisy = torch.randn(3, 4, 8, 8)
    one = model.predict(noisy, 500, text)
    torch.testing.assert_close(one, model.predict(noisy, torch.tensor([500] * 3), text))
    noisy.requires_grad_(True)
    assert torch.autograd.grad(model.predict(noisy, 500, text).sum(), noisy)[0].abs().sum() > 0


def test_pictures_go_through_the_vae_as_the_pipeline_scales_them(model: DiffusionBackend) -> None:
    pictures = torch.rand(2, 3, 16, 16) * 2 - 1
    latents = model.encode_pictures(pictures)
    vae = model.pipe.vae
    with torch.no_grad():
        torch.testing.assert_close(
            latents, vae.encode(pictures).latent_dist.mode() * vae.config.scaling_factor
        )
        seen = vae.decode(latents / vae.config.scaling_factor).sample
    assert (
        np.abs(model.decode(latents) - ((seen / 2 + 0.5).clamp(0, 1) * 255).permute(0, 2, 3, 1).numpy()).max()
        < 1
    )


def test_an_xl_pipeline_draws_as_diffusers_does() -> None:
    pipe = tiny.xl_pipeline()
    start = start_noise((4, 8, 8), [2, 3])
    theirs = pipe(
        PROMPTS[:2], latents=start.clone(), num_inference_steps=4, guidance_scale=3.0, output_type="latent"
    ).images
    model = DiffusionBackend.from_pipeline(pipe)
    assert model.family.name == "sdxl"
    ours = model.draw_latents(PROMPTS[:2], [2, 3], steps=4, guidance=3.0)
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
    assert {name.split(".")[0] for name in model.tensors()} == {"unet", "text_encoder", "text_encoder_2"}
    assert model.text_facing()
