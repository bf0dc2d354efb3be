"""SLD against its formula by the element and against diffusers' own; ordinary guidance where it is off."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import tiny
import tiny_erasure
from oubliette.backends.diffusion import DiffusionBackend
from oubliette.backends.guidance import Guidance
from oubliette.backends.text import TextEmbedding
from oubliette.erase.diffusion.sld import SLD, STRENGTHS, AwayGuide, SafetyGuidance

HOW: dict[str, Any] = {"steps": 4, "guidance": 3.0}
SHAPE = (2, 1, 2, 3)
STRONG = {"scale": 40.0, "warm_up": 2, "threshold": 0.02, "momentum": 0.5, "decay": 0.7}


def safety(**facts: Any) -> SafetyGuidance:
    return SafetyGuidance(words=("car",), **{**STRONG, **facts})


def text(rows: int) -> TextEmbedding:
    return TextEmbedding(torch.zeros(rows, 3, 4), torch.ones(rows).long(), torch.ones(rows).long())


class Answers:
    """A network that gives random numbers, the same for the same call, and keeps what it gave."""

    def __init__(self) -> None:
        self.given: list[torch.Tensor] = []

    def __call__(self, noisy: torch.Tensor, t: torch.Tensor, embedding: TextEmbedding) -> torch.Tensor:
        assert len(noisy) == len(t) == len(embedding)
        rng = torch.Generator().manual_seed(len(self.given))
        self.given.append(0.05 * torch.randn(noisy.shape, generator=rng))
        return self.given[-1]


def guided(settings: SafetyGuidance, scale: float, steps: int = 5) -> tuple[list[torch.Tensor], Answers]:
    network = Answers()
    plain = Guidance(network, text(2), text(2), scale, steps)
    guide = AwayGuide(settings, plain, text(1))
    latents = torch.zeros(SHAPE)
    return [guide(number, torch.tensor(7), latents) for number in range(steps)], network


@pytest.mark.parametrize("facts", [{}, {"momentum": 0.0, "decay": 0.0}, {"warm_up": 0, "threshold": 1.0}])
@pytest.mark.parametrize("scale", [5.0, 1.0])
def test_every_element_is_the_papers_formula_over_several_steps(facts: dict[str, Any], scale: float) -> None:
    settings = safety(**facts)
    found, network = guided(settings, scale)
    gathered = torch.zeros(SHAPE)
    for number, (made, given) in enumerate(zip(found, network.given, strict=True)):
        for index in [(b, 0, y, x) for b in range(2) for y in range(2) for x in range(3)]:
            empty, prompt, concept = (float(part[index]) for part in given.chunk(3))
            near = prompt - concept < settings.threshold
            share = min(1.0, settings.scale * abs(prompt - concept)) if near else 0.0
            away = share * (concept - empty) + settings.momentum * float(gathered[index])
            gathered[index] = settings.decay * gathered[index] + (1 - settings.decay) * away
            off = away if number >= settings.warm_up else 0.0
            assert float(made[index]) == pytest.approx(empty + scale * ((prompt - empty) - off), abs=1e-6)


def test_it_is_what_diffusers_own_pipeline_does() -> None:
    from diffusers.pipelines.deprecated.stable_diffusion_safe import pipeline_stable_diffusion_safe as safe

    settings = safety()
    found, network = guided(settings, 7.5)
    momentum = None
    for number, (made, given) in enumerate(zip(found, network.given, strict=True)):
        empty, prompt, concept = given.chunk(3)
        uce_factor, momentum = safe.StableDiffusionPipelineSafe.perform_safety_guidance(
            None,
            True,
            momentum,
            prompt - empty,
            (prompt, empty, concept),
            number,
            settings.scale,
            settings.warm_up,
            settings.threshold,
            settings.momentum,
            settings.decay,
        )
        torch.testing.assert_close(made, empty + 7.5 * uce_factor)


def test_the_strengths_are_those_of_diffusers_but_for_one_scale() -> None:
    from diffusers.pipelines.deprecated.stable_diffusion_safe import SafetyConfig

    names = {
        "scale": "sld_guidance_scale",
        "warm_up": "sld_warmup_steps",
        "threshold": "sld_threshold",
        "momentum": "sld_momentum_scale",
        "decay": "sld_mom_beta",
    }
    for strength, facts in STRENGTHS.items():
        theirs = getattr(SafetyConfig, strength.upper())
        for own, name in names.items():
            if (strength, own) != ("weak", "scale"):
                assert facts[own] == theirs[name], (strength, own)


def test_one_pass_of_three_rows_a_picture() -> None:
    _, network = guided(safety(), 3.0, steps=2)
    assert [len(given) for given in network.given] == [6, 6]


def test_without_scale_it_is_ordinary_guidance_bit_for_bit() -> None:
    model = tiny_erasure.backend()
    plain = model.draw_latents(["a car", "a dog"], [1, 2], **HOW)
    model.attach(safety(scale=0.0))
    assert torch.equal(model.draw_latents(["a car", "a dog"], [1, 2], **HOW), plain)


def test_in_warm_up_it_is_ordinary_guidance() -> None:
    model = tiny_erasure.backend()
    plain = model.draw_latents(["a car"], [1], **HOW)
    model.attach(safety(warm_up=4))
    torch.testing.assert_close(model.draw_latents(["a car"], [1], **HOW), plain, rtol=1e-4, atol=1e-4)
    model.detach()
    model.attach(safety(warm_up=3))
    assert not torch.allclose(model.draw_latents(["a car"], [1], **HOW), plain, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("pipe", [tiny.pipeline, tiny.xl_pipeline])
def test_a_picture_does_not_depend_on_its_neighbours(pipe: Any) -> None:
    model = DiffusionBackend.from_pipeline(pipe())
    model.attach(safety(warm_up=0, scale=2.0, threshold=10.0))
    both = model.draw_latents(["a car", "a dog"], [1, 2], **HOW)
    apart = model.draw_latents(["a car", "a dog"], [1, 2], batch=1, **HOW)
    torch.testing.assert_close(both, apart, rtol=1e-3, atol=1e-3)


def test_options_go_over_the_strengths_and_the_words_are_one_text() -> None:
    asked = tiny_erasure.request(tiny_erasure.CAR, tiny_erasure.VAN_GOGH)
    made = SLD(SLD.Options(strength="max", warm_up=3), asked).attachment(tiny_erasure.backend(), None, [])  # type: ignore[arg-type]
    assert made.text == "car, van gogh"
    assert (made.scale, made.warm_up, made.threshold) == (5000, 3, 1.0)
    assert SLD.Options().strength == "medium"
