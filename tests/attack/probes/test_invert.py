"""Inversion against closed forms: linear denoisers, whose DDIM steps are multiplications."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from attack.probes.rig import CAR, CASES, HOW, How, backend, pictures
from oubliette.attack.probes.invert import PSNR_CAP, Invert, invert, likeliness, psnr
from oubliette.attack.probes.probe import walk
from oubliette.backends.diffusion import DiffusionBackend
from oubliette.core.errors import UserError
from oubliette.core.validation import validated

KEPT = torch.cumprod(1 - torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float32) ** 2, 0).double()
VARIANCE = 0.5


def _linear(prediction: str) -> DiffusionBackend:
    """The perfect denoiser of data that are N(0, VARIANCE): the noise in x is c(t) x."""
    model = backend(prediction)

    def predict(noisy: torch.Tensor, t: Any, text: Any) -> torch.Tensor:
        a = KEPT[torch.as_tensor(t).reshape(-1)[0].long()]
        c = (1 - a).sqrt() / (a * VARIANCE + 1 - a)
        if prediction == "v_prediction":  # e = sqrt(1 - a) x + sqrt(a) v
            c = (c - (1 - a).sqrt()) / a.sqrt()
        return c.float() * noisy

    model.predict = predict  # type: ignore[method-assign,assignment]
    return model


def _forward_factor(steps: int) -> float:
    """What DDIM multiplies a latent by, step by step: sqrt(p) (1 - s c) / sqrt(a) + sqrt(1 - p) c."""
    gap, factor = 1000 // steps, 1.0
    for t in range(1 + gap * (steps - 1), 0, -gap):
        a, p = KEPT[t], KEPT[t - gap] if t >= gap else KEPT[0]
        c = (1 - a).sqrt() / (a * VARIANCE + 1 - a)
        factor *= float(p.sqrt() * (1 - (1 - a).sqrt() * c) / a.sqrt() + (1 - p).sqrt() * c)
    return factor


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_a_linear_denoiser_inverts_to_the_closed_form(prediction: str, guidance: float) -> None:
    model = _linear(prediction)
    y = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    x, residual = invert(model, y, ["a car"] * 2, steps=10, guidance=guidance, iterations=40)
    torch.testing.assert_close(x.double(), y.double() / _forward_factor(10), rtol=1e-3, atol=1e-4)
    assert residual.max() < 1e-5
    torch.testing.assert_close(
        walk(model, x, ["a car"] * 2, steps=10, guidance=guidance), y, rtol=1e-3, atol=1e-4
    )


def test_each_iteration_is_one_term_of_the_geometric_series() -> None:
    """One step: x = k y + q c x has x = k y (1 + q c + ... + (q c)^(n-1)) + (q c)^n y after n iterations."""
    model = _linear("epsilon")
    y = torch.ones(1, 4, 8, 8)
    a, p = KEPT[1], KEPT[0]
    c = (1 - a).sqrt() / (a * VARIANCE + 1 - a)
    k, q = (a / p).sqrt(), (1 - a).sqrt() - (a * (1 - p) / p).sqrt()
    iterates = [1.0]
    for _ in range(3):
        iterates.append(float(k + q * c * iterates[-1]))
    for n in (1, 2, 3):
        x, residual = invert(model, y, [""], steps=1, guidance=1.0, iterations=n)
        assert x.unique().item() == pytest.approx(iterates[n], rel=1e-5)
        assert residual.item() == pytest.approx(abs(iterates[n] - iterates[n - 1]), abs=1e-6)
    averaged, _ = invert(model, y, [""], steps=1, guidance=1.0, iterations=3, average=2)
    noise = float(c) * (iterates[1] + iterates[2]) / 2
    assert averaged.unique().item() == pytest.approx(float(k + q * noise), rel=1e-5)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_drawing_from_an_inverted_noise_gives_the_latent_back(prediction: str) -> None:
    """A real network, guided, with prompts that differ; steps so short that the iteration contracts."""
    model = backend(prediction)
    y = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    prompts = ["a red car", "a dog"]
    x, residual = invert(model, y, prompts, steps=20, guidance=1.5, iterations=9)
    assert residual.max() < 1e-3
    torch.testing.assert_close(walk(model, x, prompts, steps=20, guidance=1.5), y, rtol=1e-2, atol=1e-2)


def test_reports_psnr_the_vaes_own_and_the_noises_length() -> None:
    model, given = backend(), pictures(3)
    shown = Invert(Invert.Options(iterations=9)).run(model, CAR, CASES, pictures=given, sampling=HOW)
    assert set(shown.each) == {"psnr", "psnr_vae", "norm", "surprise", "residual"}
    assert shown.each["psnr"] == pytest.approx(shown.each["psnr_vae"], abs=0.5)  # solved: only the VAE loses
    assert shown.facts["psnr"] == pytest.approx(np.mean(shown.each["psnr"]))
    assert shown.prompts == ("", "", "")
    concept = Invert(Invert.Options(prompt="concept")).run(
        model, CAR, CASES, pictures=given, sampling=How(steps=2)
    )
    assert concept.prompts == tuple(case.prompt for case in CASES)


def test_psnr_by_hand() -> None:
    left = np.zeros((3, 2, 2, 3), dtype=np.uint8)
    right = left.copy()
    right[1] = 255
    right[2, 0, 0, 0] = 12  # mean square 144 / 12 = 12
    assert psnr(left, right) == pytest.approx((PSNR_CAP, 0.0, 10 * math.log10(255**2 / 12)))


def test_likeliness_of_ordinary_noise_and_of_others() -> None:
    noise = torch.randn(4000, 6, generator=torch.Generator().manual_seed(0))
    norm, surprise = likeliness(noise)
    assert np.mean(norm) == pytest.approx(1.0, abs=0.01)
    assert np.mean(surprise) == pytest.approx(0.0, abs=0.05)
    assert np.std(surprise) == pytest.approx(1.0, abs=0.05)
    # In 2 dimensions the mean length is sqrt(pi / 2); |x|^2 has mean 2 and standard deviation 2.
    norm, surprise = likeliness(torch.tensor([[3.0, 4.0]]))
    assert norm == pytest.approx((5 / math.sqrt(math.pi / 2),))
    assert surprise == pytest.approx(((25 - 2) / 2,))


def test_impossible_options_are_refused() -> None:
    with pytest.raises(UserError, match="average 3 of only 2 iterations"):
        validated(Invert.Options, {"iterations": 2, "average": 3}, "invert")
    with pytest.raises(UserError, match="'prompt'"):
        validated(Invert.Options, {"prompt": "none"}, "invert")


def test_a_network_that_knows_nothing_gives_the_pictures_back_so_they_are_no_evidence() -> None:
    """Random weights, and yet what comes back is what the VAE alone would give."""
    assert not Invert.pictures_tell
    shown = Invert(Invert.Options(iterations=9)).run(
        backend(seed=5), CAR, CASES[:1], pictures=pictures(1), sampling=How(steps=20)
    )
    assert shown.facts["psnr"] == pytest.approx(shown.facts["psnr_vae"], abs=0.5)
