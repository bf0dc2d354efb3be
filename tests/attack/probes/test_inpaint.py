"""Inpainting leaves what is known as it is, and paints what is not."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from attack.probes.rig import CAR, CASES, HOW, backend, pictures, prompts_and_seeds
from oubliette.attack.probes.inpaint import Inpaint, centre, fill_in
from oubliette.attack.probes.probe import encode
from oubliette.backends.sampling import start_noise
from oubliette.core.errors import UserError
from oubliette.core.validation import validated


def test_the_hole_is_the_middle() -> None:
    expected = torch.zeros(8, 8, dtype=torch.bool)
    expected[2:6, 2:6] = True
    assert torch.equal(centre((8, 8), 0.5), expected)
    assert centre((8, 8), 1.0).all()
    assert centre((8, 4), 0.01).sum() == 1
    assert centre((8, 4), 0.5).sum() == 4 * 2


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction", "sample"])
def test_the_known_region_is_exact_at_the_end_and_the_hole_is_not(prediction: str) -> None:
    model = backend(prediction)
    known = encode(model, pictures(2), 2)
    noise = start_noise(model.latent_shape, [1, 2])
    hole = centre((8, 8), 0.5)
    prompts, _ = prompts_and_seeds()
    done = fill_in(model, known, hole, noise, prompts[:2], 4, 2.0)
    assert torch.equal(done[:, :, ~hole], known[:, :, ~hole])
    assert not torch.isclose(done[:, :, hole], known[:, :, hole]).any(dim=-1).all()


def test_the_denoiser_sees_the_known_region_at_its_noise_level() -> None:
    model = backend()
    known, noise = encode(model, pictures(1), 1), start_noise(model.latent_shape, [1])
    hole = centre((8, 8), 0.5)
    seen: dict[int, torch.Tensor] = {}
    plain = model.predict

    def watch(noisy: torch.Tensor, t: torch.Tensor, text: object) -> torch.Tensor:
        seen[int(t[0])] = noisy[:1].clone()
        return plain(noisy, t, text)  # type: ignore[arg-type]

    model.predict = watch  # type: ignore[method-assign,assignment]
    fill_in(model, known, hole, noise, ["a car"], 4, 2.0)
    kept = torch.cumprod(1 - torch.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2, 0)
    assert list(seen) == [751, 501, 251, 1]
    for t, noisy in seen.items():
        expected = kept[t].sqrt() * known + (1 - kept[t]).sqrt() * noise
        torch.testing.assert_close(noisy[:, :, ~hole], expected[:, :, ~hole], rtol=1e-4, atol=1e-4)
    assert torch.equal(seen[751][:, :, hole], noise[:, :, hole])


def test_a_hole_as_large_as_the_picture_is_ordinary_drawing() -> None:
    model = backend()
    shown = Inpaint(Inpaint.Options(side=1)).run(model, CAR, CASES, pictures=pictures(3), sampling=HOW)
    drawn = model.draw(list(shown.prompts), list(shown.seeds), steps=6, guidance=2.0, batch=2)
    assert np.array_equal(shown.samples, drawn)
    assert shown.facts == {"hole": 1.0}


def test_the_noise_is_not_the_one_the_original_drew_from() -> None:
    shown = Inpaint().run(backend(), CAR, CASES, pictures=pictures(3), sampling=HOW, seed=1)
    assert not set(shown.seeds) & {case.seed for case in CASES}
    assert shown.facts == {"hole": 0.25}
    other = Inpaint().run(backend(), CAR, CASES, pictures=pictures(3), sampling=HOW, seed=2)
    assert not np.array_equal(shown.samples, other.samples)


@pytest.mark.parametrize("side", [0, -1, 1.5])
def test_impossible_holes_are_refused(side: float) -> None:
    with pytest.raises(UserError, match="'side'"):
        validated(Inpaint.Options, {"side": side}, "inpaint")
