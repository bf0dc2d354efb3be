"""Concept Ablation against its loss written out by hand."""

from __future__ import annotations

import pytest
import torch

import tiny_erasure
from oubliette.erase.diffusion.ablation import Ablation, distance


def by_hand(case: tiny_erasure.Prepared, draw: dict, prompts: list[str]) -> torch.Tensor:
    """The network's output, called as diffusers calls it, without any of the package's own passes."""
    text = torch.cat([case.model.encode_text([prompt]).hidden for prompt in prompts])
    unet = case.model.pipe.unet
    return unet(draw["noisy"], draw["t"], encoder_hidden_states=text).sample


def expected(case: tiny_erasure.Prepared, draw: dict, goal: torch.Tensor) -> list[torch.Tensor]:
    loss = (by_hand(case, draw, draw["target"]) - goal).pow(2).mean()
    return list(torch.autograd.grad(loss, case.weights.parameters))


def close(left: list[torch.Tensor], right: list[torch.Tensor]) -> None:
    for one, other in zip(left, right, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("teacher", ["current", "original"])
def test_gradient_is_that_of_the_loss_written_out(teacher: str) -> None:
    case = tiny_erasure.Prepared(Ablation, teacher=teacher)
    draw = case.draw()
    with torch.no_grad():
        if teacher == "original":
            with case.weights.originals():
                goal = by_hand(case, draw, draw["anchor"])
        else:
            goal = by_hand(case, draw, draw["anchor"])
    close(case.gradient("forget", draw), expected(case, draw, goal))


def test_noise_based_variant_regresses_to_the_noise() -> None:
    case = tiny_erasure.Prepared(Ablation, variant="noise")
    draw = case.draw()
    signal = case.model.pipe.scheduler.alphas_cumprod[draw["t"]].view(-1, 1, 1, 1)
    noise = (draw["noisy"] - signal.sqrt() * draw["clean"]) / (1 - signal).sqrt()
    torch.testing.assert_close(draw["goal"], noise, rtol=1e-3, atol=1e-3)
    close(case.gradient("forget", draw), expected(case, draw, draw["goal"]))


def test_noised_pictures_are_the_items_own() -> None:
    case = tiny_erasure.Prepared(Ablation)
    draw = case.draw()
    pairs = {(pair.target, pair.anchor) for pair in case.data.items}
    assert set(zip(draw["target"], draw["anchor"], strict=True)) <= pairs
    latents = case.data.anchor_latents()
    for clean, caption in zip(draw["clean"], draw["anchor"], strict=True):
        assert any(
            torch.equal(clean, latents[index]) and item.anchor == caption
            for index, item in enumerate(case.data.items)
        )


def test_hellinger_is_one_minus_exp_of_each_items_error() -> None:
    rng = torch.Generator().manual_seed(0)
    a, b = (torch.randn(3, 2, 4, generator=rng, dtype=torch.float64).float() for _ in range(2))
    errors = [(a[i] - b[i]).pow(2).mean() for i in range(3)]
    by_item = torch.stack([1 - torch.exp(-0.5 * error) for error in errors]).mean()
    torch.testing.assert_close(distance(a, b, "hellinger", 0.5), by_item)
    torch.testing.assert_close(distance(a, b, "mse", 0.5), torch.stack(errors).mean())
    # For small k it is k times the mean squared error.
    small = distance(a, b, "hellinger", 1e-4) / 1e-4
    torch.testing.assert_close(small, distance(a, b, "mse", 1.0), rtol=1e-3, atol=0)


@pytest.mark.parametrize("loss", ["hellinger", "kl", "chi-square"])
def test_a_divergence_is_that_of_two_gaussians_of_one_variance(loss: str) -> None:
    from torch.distributions import Normal

    apart, deviation = 0.7, 1.3
    one, other = (Normal(torch.tensor(mean, dtype=torch.float64), deviation) for mean in (0.0, apart))
    x = torch.linspace(-20, 20, 200_001, dtype=torch.float64)
    p, q = one.log_prob(x).exp(), other.log_prob(x).exp()
    under = {
        "hellinger": (p.sqrt() - q.sqrt()).square() / 2,
        "kl": p * (one.log_prob(x) - other.log_prob(x)),
        "chi-square": (p - q).square() / q,
    }
    integral = torch.trapezoid(under[loss], x)
    gap = torch.full((1, 1), apart)
    found = distance(gap, torch.zeros(1, 1), loss, 1 / (8 * deviation**2))
    torch.testing.assert_close(found.double(), integral, rtol=1e-5, atol=0)


@pytest.mark.parametrize("prior", ["anchor", "retain"])
def test_prior_is_the_denoising_loss_on_pictures_of_its_own(prior: str) -> None:
    case = tiny_erasure.Prepared(Ablation, prior=prior)
    assert {name: role.kind for name, role in case.method.roles(0).items()} == {
        "forget": "forget",
        "prior": "retain",
    }
    draw = case.draw()
    batch = draw["prior"]
    captions, latents = case.data.prior(prior)
    assert set(batch["prompts"]) <= set(captions)
    assert all(any(torch.equal(one, known) for known in latents) for one in batch["clean"])
    assert not torch.equal(batch["noise"], draw["noise"])
    loss = (by_hand(case, batch, batch["prompts"]) - batch["noise"]).pow(2).mean()
    torch.testing.assert_close(case.method.loss("prior", draw), loss)
    assert ("car" in " ".join(captions)) is False


def test_timesteps_keep_to_their_range() -> None:
    case = tiny_erasure.Prepared(Ablation, t_min=400, t_max=410)
    seen = torch.cat([case.draw(step, batch=8)["t"] for step in range(5)])
    assert int(seen.min()) >= 400
    assert int(seen.max()) < 410


def test_bos_keys_and_values_pass_no_gradient_and_change_no_value() -> None:
    plain = tiny_erasure.Prepared(Ablation)
    detached = tiny_erasure.Prepared(Ablation, detach_bos=True)
    draw = plain.draw()
    assert torch.equal(plain.method.loss("forget", draw), detached.method.loss("forget", draw))
    with_bos, without = plain.gradient("forget", draw), detached.gradient("forget", draw)
    assert not any(torch.equal(a, b) for a, b in zip(with_bos, without, strict=True))
    # With every embedding but the first zeroed, only the first could carry a gradient to the weights.
    text = plain.model.encode_text(["car"] * 4).hidden.clone()
    text[:, 1:] = 0
    from dataclasses import replace

    from oubliette.erase.diffusion.detach import detached_first_token, readers

    embedding = replace(plain.model.encode_text(["car"] * 4), hidden=text)
    with detached_first_token(readers(plain.model, plain.model.text_facing())):
        out = plain.model.predict(draw["noisy"], draw["t"], embedding)
    gradients = torch.autograd.grad(out.square().sum(), plain.weights.parameters)
    assert all(float(gradient.abs().max()) == 0 for gradient in gradients)


def test_a_text_encoder_in_scope_is_trained() -> None:
    loop = tiny_erasure.loop(Ablation, scope="text-encoder", steps=2)
    loop.run()
    assert any(float(delta.abs().max()) > 0 for delta in loop.weights.delta().values())
