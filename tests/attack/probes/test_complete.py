"""Completion is ordinary drawing at one end, the VAE's picture at the other, noised between."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from attack.probes.rig import CAR, CASES, HOW, How, backend, erased, pictures, prompts_and_seeds
from oubliette.attack.probes.complete import Complete, drawn_steps, part_noised
from oubliette.attack.probes.probe import encode
from oubliette.backends.sampling import start_noise
from oubliette.core.errors import UserError
from oubliette.core.validation import validated


def _complete(**options: Any) -> Complete:
    return Complete(Complete.Options(**options))


def test_a_ratio_of_1_is_ordinary_drawing_and_0_is_the_vaes_picture() -> None:
    model, given = backend(), pictures(3)
    shown = _complete(ratios=(1.0, 0.0)).run(model, CAR, CASES, pictures=given, sampling=HOW)
    drawn = model.draw(list(shown.prompts[:3]), list(shown.seeds[:3]), steps=6, guidance=2.0, batch=2)
    assert np.array_equal(shown.samples[:3], drawn)
    assert np.array_equal(shown.samples[3:], model.decode(encode(model, given, 3)))
    assert shown.each == {"ratio": (1.0, 1.0, 1.0, 0.0, 0.0, 0.0)}
    assert shown.prompts == tuple(prompts_and_seeds()[0] * 2)
    assert not set(shown.seeds) & {case.seed for case in CASES}


@pytest.mark.parametrize(
    ("ratio", "steps", "expected"), [(0.55, 50, 28), (0.9, 50, 45), (0, 7, 0), (1, 7, 7)]
)
def test_a_ratio_is_a_share_of_the_steps(ratio: float, steps: int, expected: int) -> None:
    # 0.55 * 50 = 27.500000000000004 in floating point.
    assert drawn_steps(ratio, steps) == expected


def test_the_start_is_the_picture_noised_to_the_first_drawn_step() -> None:
    model = backend()
    known, noise = encode(model, pictures(2), 2), start_noise(model.latent_shape, [1, 2])
    kept = torch.cumprod(1 - torch.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2, 0)
    begun = part_noised(model, known, noise, steps=10, first=4)  # timesteps 901, 801, 701, 601, 501, ...
    expected = kept[501].sqrt() * known + (1 - kept[501]).sqrt() * noise
    torch.testing.assert_close(begun, expected, rtol=1e-4, atol=1e-4)


def test_only_the_steps_that_are_left_are_drawn() -> None:
    model = backend()
    seen: list[int] = []
    plain = model.predict

    def watch(noisy: torch.Tensor, t: torch.Tensor, text: Any) -> torch.Tensor:
        seen.append(int(t[0]))
        return plain(noisy, t, text)

    model.predict = watch  # type: ignore[method-assign,assignment]
    how = How(steps=10, batch=8)
    _complete(ratios=(0.3,)).run(model, CAR, CASES, pictures=pictures(1), sampling=how)
    assert seen == [201, 101, 1]


def test_a_handed_over_trajectory_is_one_run_where_both_models_are_the_same() -> None:
    model = backend()
    shown = _complete(ratios=(1.0, 0.5, 0.0), start="base").run(
        model, CAR, CASES, base=backend(), sampling=HOW
    )
    prompts, seeds = prompts_and_seeds()
    drawn = model.draw(prompts, seeds, steps=6, guidance=2.0, batch=2)
    for part in (slice(0, 3), slice(3, 6), slice(6, 9)):
        assert np.array_equal(shown.samples[part], drawn)
    assert shown.seeds == tuple(seeds) * 3


def test_a_handed_over_trajectory_is_the_erased_models_at_1_and_the_originals_at_0() -> None:
    model, base = erased(), backend()
    shown = _complete(ratios=(1.0, 0.0), start="base").run(model, CAR, CASES, base=base, sampling=HOW)
    prompts, seeds = prompts_and_seeds()
    how: dict[str, Any] = {"steps": 6, "guidance": 2.0, "batch": 2}
    assert np.array_equal(shown.samples[:3], model.draw(prompts, seeds, **how))
    assert np.array_equal(shown.samples[3:], base.draw(prompts, seeds, **how))
    assert not np.array_equal(shown.samples[:3], shown.samples[3:])


def test_handing_over_needs_an_original_whose_latents_fit() -> None:
    with pytest.raises(UserError, match="hands the original model's latents over"):
        _complete(start="base").run(backend(), CAR, CASES, pictures=pictures(1), sampling=HOW)
    other = backend()
    other.latent_shape = (4, 4, 4)
    with pytest.raises(UserError, match=r"latents of memory \(4, 4, 4\) do not fit"):
        _complete(start="base").run(backend(), CAR, CASES, base=other, sampling=HOW)


@pytest.mark.parametrize("ratios", [[], [1.1], [-0.1]])
def test_impossible_ratios_are_refused(ratios: list[float]) -> None:
    with pytest.raises(UserError, match="ratios"):
        validated(Complete.Options, {"ratios": ratios}, "complete")
