"""ESD's target and its two conventions of eta."""

from __future__ import annotations

import pytest
import torch

import tiny_erasure
from oubliette.core.errors import UserError
from oubliette.core.validation import validated
from oubliette.erase.diffusion.esd import ESD, esd_target

FAST = {"trajectory_steps": 4}


def answers(case: tiny_erasure.Prepared, draw: dict, prompt: str) -> torch.Tensor:
    """The original network's output for one prompt, by diffusers' own call."""
    hidden = case.model.encode_text([prompt]).hidden.expand(len(draw["noisy"]), -1, -1)
    with torch.no_grad(), case.weights.originals():
        return case.model.pipe.unet(draw["noisy"], draw["t"], encoder_hidden_states=hidden).sample


def test_released_eta_is_the_papers_plus_one() -> None:
    paper = tiny_erasure.Prepared(ESD, eta=1.0, eta_convention="paper", **FAST).draw()
    released = tiny_erasure.Prepared(ESD, eta=2.0, eta_convention="released", **FAST).draw()
    assert torch.equal(paper["noisy"], released["noisy"])
    torch.testing.assert_close(paper["goal"], released["goal"], rtol=1e-4, atol=1e-6)


def test_target_is_the_formula() -> None:
    case = tiny_erasure.Prepared(ESD, eta=1.5, **FAST)
    draw = case.draw()
    empty, concept = answers(case, draw, ""), answers(case, draw, "car")
    torch.testing.assert_close(draw["goal"], empty - 1.5 * (concept - empty), rtol=1e-4, atol=1e-6)
    loss = case.model.pipe.unet(draw["noisy"], draw["t"], case.model.encode_text(["car"] * 4).hidden).sample
    torch.testing.assert_close(case.method.loss("forget", draw), (loss - draw["goal"]).pow(2).mean())


def test_an_attribute_is_taken_from_its_parent() -> None:
    case = tiny_erasure.Prepared(ESD, eta=1.0, eta_convention="released", erase_from="red car", **FAST)
    draw = case.draw()
    assert draw["prompts"] == ["red car"] * 4
    wanted = esd_target(*(answers(case, draw, prompt) for prompt in ("red car", "car", "")), 1.0)
    torch.testing.assert_close(draw["goal"], wanted, rtol=1e-4, atol=1e-6)


def test_eta_zero_regresses_to_the_starting_prediction() -> None:
    case = tiny_erasure.Prepared(ESD, eta=0.0, **FAST)
    draw = case.draw()
    torch.testing.assert_close(draw["goal"], answers(case, draw, ""), rtol=1e-4, atol=1e-6)


def test_trajectories_are_the_original_models_whatever_was_trained() -> None:
    near, far = (tiny_erasure.Prepared(ESD, nudge=nudge, **FAST).draw() for nudge in (0.0, 0.3))
    assert torch.equal(near["noisy"], far["noisy"])
    assert torch.equal(near["goal"], far["goal"])
    stops = {float(tiny_erasure.Prepared(ESD, **FAST).draw(step)["t"][0]) for step in range(8)}
    assert len(stops) > 1


def test_concepts_take_turns_and_bank_prompts_name_them() -> None:
    asked = tiny_erasure.request(tiny_erasure.CAR, tiny_erasure.VAN_GOGH)
    case = tiny_erasure.Prepared(ESD, asked=asked, **FAST)
    assert case.draw()["prompts"] == ["car", "van gogh"] * 2
    bank = tiny_erasure.Prepared(ESD, asked=asked, prompts="bank", **FAST).draw()["prompts"]
    assert ["car" in prompt for prompt in bank] == [True, False] * 2
    assert ["van gogh" in prompt for prompt in bank] == [False, True] * 2


def test_a_parent_in_the_papers_convention_is_refused() -> None:
    with pytest.raises(UserError, match="released"):
        validated(ESD.Options, {"erase_from": "red car"}, "method 'esd'")
