"""SalUn against its loss written out, and against Concept Ablation, which it is on the concept's pictures."""

from __future__ import annotations

import pytest
import torch

import tiny_erasure
from oubliette.erase.diffusion.ablation import Ablation
from oubliette.erase.diffusion.salun import SalUn
from oubliette.erase.prepare import DiffusionData


@pytest.mark.parametrize("teacher", ["current", "original"])
def test_the_loss_is_the_formula(teacher: str) -> None:
    case = tiny_erasure.Prepared(SalUn, teacher=teacher)
    draw = case.draw()
    unet, text = case.model.pipe.unet, case.model.encode_text
    latents = case.data.target_latents()
    assert all(any(torch.equal(one, known) for known in latents) for one in draw["clean"])
    assert ["car" in prompt for prompt in draw["target"]] == [True] * 4
    with torch.no_grad():
        if teacher == "original":
            with case.weights.originals():
                goal = unet(draw["noisy"], draw["t"], text(draw["anchor"]).hidden).sample
        else:
            goal = unet(draw["noisy"], draw["t"], text(draw["anchor"]).hidden).sample
    prediction = unet(draw["noisy"], draw["t"], text(draw["target"]).hidden).sample
    torch.testing.assert_close(case.method.loss("forget", draw), (prediction - goal).pow(2).mean())
    prior = draw["prior"]
    kept = unet(prior["noisy"], prior["t"], text(prior["prompts"]).hidden).sample
    torch.testing.assert_close(case.method.loss("prior", draw), (kept - prior["noise"]).pow(2).mean())
    assert not any("car" in prompt for prompt in case.data.prior("retain")[0])
    roles = case.method.roles(0)
    assert (roles["forget"].weight, roles["prior"].weight, roles["prior"].kind) == (1.0, 0.5, "retain")


def test_without_mask_and_alpha_it_is_concept_ablation_on_the_concepts_pictures(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Same bits after three steps, once Concept Ablation is handed the same pictures."""
    salun = tiny_erasure.loop(SalUn, steps=3, options={"alpha": 0.0})
    salun.run()
    unweighted = tiny_erasure.loop(SalUn, steps=3, options={"prior": "none"})
    unweighted.run()
    monkeypatch.setattr(DiffusionData, "anchor_latents", DiffusionData.target_latents)
    ablation = tiny_erasure.loop(Ablation, steps=3, options={"teacher": "current"})
    ablation.run()
    for name, delta in ablation.weights.delta().items():
        assert float(delta.abs().max()) > 0
        assert torch.equal(delta, salun.weights.delta()[name])
        assert torch.equal(delta, unweighted.weights.delta()[name])
