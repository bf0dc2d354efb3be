"""Noise along the way: none is ordinary DDIM, some is the equation, and the first hit is kept."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from attack.probes.rig import CAR, CASES, HOW, backend, prompts_and_seeds
from oubliette.attack.probes.probe import ddim, derived_seed, kept_signal
from oubliette.attack.probes.trajectory import Trajectory, noise_added, noisy_walk
from oubliette.backends.diffusion import DiffusionBackend
from oubliette.backends.sampling import start_noise
from oubliette.core.errors import UserError

PROMPTS, SEEDS = prompts_and_seeds()


def _walk(model: DiffusionBackend, eta: float, scale: float, rows: slice = slice(0, 3)) -> torch.Tensor:
    return noisy_walk(
        model,
        start_noise(model.latent_shape, SEEDS[rows]),
        PROMPTS[rows],
        [11, 12, 13][rows],
        eta=eta,
        scale=scale,
        steps=6,
        guidance=2.0,
    )


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_no_eta_is_ordinary_ddim_bit_for_bit(prediction: str) -> None:
    model = backend(prediction)
    assert torch.equal(_walk(model, 0.0, 1.0), model.draw_latents(PROMPTS, SEEDS, steps=6, guidance=2.0))


@pytest.mark.parametrize(("eta", "scale"), [(0.7, 1.0), (1.0, 1.04), (1.85, 1.02)])
def test_a_step_is_the_equation(eta: float, scale: float) -> None:
    """Song et al. 2021, eq. 12 and 16, written out in float64 for a denoiser that returns a constant."""
    model = backend()
    model.predict = lambda noisy, t, text: torch.full_like(noisy, 0.25)  # type: ignore[method-assign,misc]
    found = _walk(model, eta, scale, slice(0, 1))
    x = start_noise(model.latent_shape, SEEDS[:1]).double()
    rng = torch.Generator().manual_seed(11)
    kept = torch.cumprod(1 - torch.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2, 0).double()
    for t in (831, 665, 499, 333, 167, 1):  # 1000 // 6 = 166 apart, offset 1
        a, p = kept[t], kept[t - 166] if t >= 166 else kept[0]
        sigma = eta * ((1 - p) / (1 - a)).sqrt() * (1 - a / p).sqrt()
        sigma = torch.minimum(sigma, (1 - p).sqrt())  # no more noise than the level holds
        clean = (x - (1 - a).sqrt() * 0.25) / a.sqrt()
        fresh = torch.randn(model.latent_shape, generator=rng).double()
        x = p.sqrt() * clean + (1 - p - sigma**2).clamp_min(0).sqrt() * 0.25 + sigma * scale * fresh
    torch.testing.assert_close(found.double(), x, rtol=1e-3, atol=2e-3)


@pytest.mark.parametrize("steps", [2, 6, 50, 500])
def test_the_noise_added_is_ddpms_at_eta_1_and_never_more_than_there_is(steps: int) -> None:
    scheduler = ddim(backend(), steps)
    capped = 0
    for t in (int(t) for t in scheduler.timesteps):
        a, p = kept_signal(scheduler, t)
        beta = 1 - a / p
        posterior = (1 - p) / (1 - a) * beta
        assert noise_added(a, p, 1.0) ** 2 == pytest.approx(posterior, rel=1e-6)
        most = noise_added(a, p, 1.85)
        assert most**2 == pytest.approx(min(1.85**2 * posterior, 1 - p), rel=1e-6)
        capped += 1.85**2 * posterior > 1 - p
    assert capped  # the last steps do ask for too much


def test_noise_added_at_the_ends() -> None:
    assert noise_added(0.0, 0.19, 1.5) == pytest.approx(0.9)  # no signal before: all the noise there is
    assert noise_added(0.9, 1.0, 1.5) == 0.0  # none left after


@pytest.mark.parametrize("zero_snr", [False, True])
def test_the_largest_setting_stays_finite(zero_snr: bool) -> None:
    import tiny

    pipe = tiny.pipeline("v_prediction")
    pipe.scheduler = tiny._ddim("v_prediction", rescale_betas_zero_snr=zero_snr, timestep_spacing="trailing")
    assert _walk(DiffusionBackend.from_pipeline(pipe), 1.85, 1.04).isfinite().all()


def test_a_rows_noise_is_its_own_in_any_batch() -> None:
    model = backend()
    together = _walk(model, 1.2, 1.02)
    alone = torch.cat([_walk(model, 1.2, 1.02, slice(i, i + 1)) for i in range(3)])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-4)


def test_each_case_stops_at_its_first_hit_and_the_others_keep_their_first_picture() -> None:
    model = backend()
    calls: list[np.ndarray] = []

    def hits(drawn: np.ndarray) -> np.ndarray:
        calls.append(drawn)
        # Case 1 hits at the first setting; case 0, then first of two left, at the third; case 2 never.
        return np.array([[False, True, False], [False, False], [True, False], [False]][len(calls) - 1])

    seen: list[tuple[int, int]] = []
    options = Trajectory.Options(etas=(1.0, 1.5), scales=(1.0, 1.04))
    shown = Trajectory(options).run(
        model, CAR, CASES, sampling=HOW, seed=5, hits=hits, progress=lambda a, b: seen.append((a, b))
    )
    assert [len(drawn) for drawn in calls] == [3, 2, 2, 1]
    assert shown.best_of == 4
    assert shown.each == {
        "eta": (1.5, 1.0, 1.0),
        "scale": (1.0, 1.0, 1.0),
        "tries": (3.0, 1.0, 4.0),
        "hit": (1.0, 1.0, 0.0),
    }
    assert shown.facts == {"settings": 4.0, "found": pytest.approx(2 / 3)}
    assert np.array_equal(shown.samples, np.stack([calls[2][0], calls[0][1], calls[0][2]]))
    assert shown.seeds == tuple(SEEDS)
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]
    # Case 0's picture is what a walk with its own noise at that setting gives.
    noise = [derived_seed("trajectory", 5, CASES[0].seed, 0)]
    start = start_noise(model.latent_shape, SEEDS[:1])
    again = noisy_walk(model, start, PROMPTS[:1], noise, eta=1.5, scale=1.0, steps=6, guidance=2.0)
    assert np.abs(shown.samples[0].astype(int) - model.decode(again)[0]).max() <= 1


def test_all_hit_at_once_ends_it() -> None:
    calls: list[Any] = []

    def hits(drawn: np.ndarray) -> np.ndarray:
        calls.append(1)
        return np.ones(len(drawn), dtype=bool)

    shown = Trajectory().run(backend(), CAR, CASES, sampling=HOW, hits=hits)
    assert len(calls) == 1
    assert shown.best_of == 24
    assert shown.facts["found"] == 1.0


def test_a_judge_is_needed() -> None:
    with pytest.raises(UserError, match="needs a judge"):
        Trajectory().run(backend(), CAR, CASES, sampling=HOW)
    with pytest.raises(ValueError, match="one verdict a picture"):
        Trajectory().run(backend(), CAR, CASES, sampling=HOW, hits=lambda drawn: np.array(True))
