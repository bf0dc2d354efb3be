"""The searches by gradients: their losses by hand, their updates by hand, and what they may put out."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import tiny
from oubliette.attack.prompts import Case, Found, build
from oubliette.attack.prompts.attack import Job
from oubliette.attack.prompts.prefix import Noised, PrefixSearch, timesteps_of
from oubliette.attack.prompts.simplex import corner, project_to_simplex
from oubliette.attack.prompts.target import Target
from oubliette.attack.prompts.tokens import Vocabulary
from oubliette.attack.types import Sampling
from oubliette.backends.diffusion import DiffusionBackend
from oubliette.core.errors import UserError
from oubliette.data.concept import Concept

CAR = Concept("car", "object")
CASES = (Case("a red car", 1), Case("a photo of a car by a house", 2))
HOW = Sampling(steps=2, guidance=2.0, batch=2)
SMALL = {"tokens": 2, "timesteps": 2, "iterations": 3, "learning_rate": 0.1}


def never(pictures: np.ndarray) -> np.ndarray:
    return np.zeros(len(pictures), dtype=bool)


@pytest.fixture(scope="module")
def model() -> DiffusionBackend:
    return DiffusionBackend.from_pipeline(tiny.pipeline(seed=1))


@pytest.fixture(scope="module")
def base() -> DiffusionBackend:
    return DiffusionBackend.from_pipeline(tiny.pipeline(seed=2))


def job(model: Any, base: Any, name: str = "unlearndiffatk", seed: int = 0) -> Job:
    return Job(model, base, CAR, CASES, Target(model, never, HOW), seed, name, [0, 1])


def noised(model: DiffusionBackend, cases: list[int]) -> Noised:
    rng = torch.Generator().manual_seed(4)
    clean, noise = torch.randn((2, len(cases), *model.latent_shape), generator=rng)
    t = torch.tensor([100, 700])[: len(cases)]
    return Noised(cases, clean, noise, t, model.add_noise(clean, noise, t))


def one_hot(words: Vocabulary, ids: Tensor) -> Tensor:
    return (words.ids == ids.unsqueeze(-1)).float()


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_unlearndiffatk_loss_by_hand(prediction: str, base: DiffusionBackend) -> None:
    model = DiffusionBackend.from_pipeline(tiny.pipeline(prediction, seed=1))
    attack: PrefixSearch = build("unlearndiffatk", SMALL)
    words = Vocabulary(model.tokenizers)
    ids = words.draw((2, 2), torch.Generator().manual_seed(8))
    batch = noised(model, [0, 1])
    losses = attack.losses(job(model, base), words, batch, one_hot(words, ids))
    for row in range(2):
        text = f"{words.write(ids[row])} {CASES[row].prompt}"
        t = int(batch.t[row])
        kept = model.schedule.alphas_cumprod[t]  # type: ignore[index]
        x = kept.sqrt() * batch.clean[row] + (1 - kept).sqrt() * batch.noise[row]
        hidden = model.encode_text([text]).hidden
        with torch.no_grad():
            out = model.pipe.unet(x[None], t, encoder_hidden_states=hidden).sample[0]
        if prediction == "v_prediction":
            # v = a n - s x_0 and x_t = a x_0 + s n give n = a v + s x_t, as a^2 + s^2 = 1.
            out = kept.sqrt() * out + (1 - kept).sqrt() * x
        expected = ((batch.noise[row] - out) ** 2).mean()
        torch.testing.assert_close(losses[row], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("place", ["alone", "before"])
def test_p4d_loss_by_hand(place: str, model: DiffusionBackend, base: DiffusionBackend) -> None:
    attack: PrefixSearch = build("p4d", {**SMALL, "place": place})
    words = Vocabulary(model.tokenizers)
    ids = words.draw((2, 2), torch.Generator().manual_seed(8))
    batch = noised(model, [0, 1])
    losses = attack.losses(job(model, base, "p4d"), words, batch, one_hot(words, ids))
    for row in range(2):
        prompt = CASES[row].prompt
        text = words.write(ids[row]) + (f" {prompt}" if place == "before" else "")
        with torch.no_grad():
            x, t = batch.noisy[row][None], batch.t[row]
            theirs = model.pipe.unet(x, t, encoder_hidden_states=model.encode_text([text]).hidden).sample
            goal = base.pipe.unet(x, t, encoder_hidden_states=base.encode_text([prompt]).hidden).sample
        torch.testing.assert_close(losses[row], ((goal - theirs) ** 2).mean(), rtol=1e-4, atol=1e-6)


def test_the_gradient_is_that_of_the_weights(model: DiffusionBackend, base: DiffusionBackend) -> None:
    """Against finite differences, at a point where the weights are used as they are."""
    attack: PrefixSearch = build("unlearndiffatk", SMALL)
    words = Vocabulary(model.tokenizers)
    batch = noised(model, [0])
    point = project_to_simplex(torch.rand((1, 2, len(words)), generator=torch.Generator().manual_seed(0)))
    point.requires_grad_()
    (gradient,) = torch.autograd.grad(attack.losses(job(model, base), words, batch, point).sum(), point)
    direction = torch.randn(point.shape, generator=torch.Generator().manual_seed(1))
    step = 0.002  # the networks are far from linear in a weight
    with torch.no_grad():
        up, down = (
            attack.losses(job(model, base), words, batch, point + h * direction) for h in (step, -step)
        )
    slope = float(((up - down) / (2 * step)).sum())
    assert slope == pytest.approx(float((gradient * direction).sum()), rel=0.02)


def test_updates_are_adam_then_projection(model: DiffusionBackend, base: DiffusionBackend) -> None:
    """One timestep of one case, run again by hand from the same draws."""
    how = {"tokens": 2, "timesteps": 1, "iterations": 3, "learning_rate": 0.1, "weight_decay": 0.1}
    attack: PrefixSearch = build("unlearndiffatk", how)
    (found,) = attack.search(model, CAR, CASES[:1], never, base=base, sampling=HOW)

    words, rng = Vocabulary(model.tokenizers), job(model, base).rng(0)
    drawn = base.draw([CASES[0].prompt], [1], steps=2, guidance=2.0)
    clean = model.encode_pictures(torch.from_numpy(drawn).permute(0, 3, 1, 2) / 127.5 - 1)
    t = timesteps_of(1000, 1, rng)
    point = project_to_simplex(torch.rand((2, len(words)), generator=rng))
    first, second, losses = torch.zeros_like(point), torch.zeros_like(point), []
    for step in (1, 2, 3):
        noise = torch.randn(clean.shape[1:], generator=rng)[None]
        noisy = model.add_noise(clean, noise, t)
        at = point.clone().requires_grad_()
        batch = Noised([0], clean, noise, t, noisy)
        loss = attack.losses(job(model, base), words, batch, corner(at)[None]).sum()
        losses.append(float(loss.detach()))
        gradient = torch.autograd.grad(loss, at)[0] + 0.1 * point
        first = 0.9 * first + 0.1 * gradient
        second = 0.999 * second + 0.001 * gradient**2
        point = point - 0.1 * (first / (1 - 0.9**step)) / ((second / (1 - 0.999**step)).sqrt() + 1e-8)
        point = project_to_simplex(point)
    chosen = words.ids[point.argmax(dim=-1)]
    assert found.prompt == f"{words.write(chosen)} {CASES[0].prompt}"
    assert found.loss == pytest.approx(np.mean(losses), rel=1e-4)


@pytest.mark.parametrize("name", ["unlearndiffatk", "p4d"])
@pytest.mark.parametrize("choice", ["greatest", "sampled"])
def test_the_seed_decides(name: str, choice: str, model: DiffusionBackend, base: DiffusionBackend) -> None:
    def search(seed: int) -> list[Found]:
        attack = build(name, {**SMALL, "choice": choice, "together": 2})
        found: list[Found] = attack.search(model, CAR, CASES, never, base=base, sampling=HOW, seed=seed)
        return found

    assert search(3) == search(3)
    assert [row.prompt for row in search(3)] != [row.prompt for row in search(4)]


def test_cases_searched_together_or_alone_find_the_same(
    model: DiffusionBackend, base: DiffusionBackend
) -> None:
    def search(together: int, cases: tuple[Case, ...] = CASES) -> list[Found]:
        attack = build("unlearndiffatk", {**SMALL, "together": together})
        found: list[Found] = attack.search(model, CAR, cases, never, base=base, sampling=HOW)
        return [replace(row, loss=round(row.loss or 0, 4)) for row in found]

    assert search(1) == search(2)
    assert search(1, CASES[1:]) == search(1)[1:]


def test_what_is_found_is_text_without_special_tokens(
    model: DiffusionBackend, base: DiffusionBackend
) -> None:
    attack = build("p4d", {**SMALL, "tokens": 6})
    words = Vocabulary(model.tokenizers)
    tokenizer = model.tokenizers[0]
    for row in attack.search(model, CAR, CASES, never, base=base, sampling=HOW):
        ids = tokenizer(row.prompt, add_special_tokens=False).input_ids
        assert len(ids) == 6
        assert set(ids) <= set(words.ids.tolist())
        assert words.write(ids) == row.prompt
        assert (row.before, row.after, row.tries) == (False, False, 2)
        assert row.loss is not None


def test_success_is_the_texts_and_ends_the_case(model: DiffusionBackend, base: DiffusionBackend) -> None:
    drawn: list[tuple[Any, str, int]] = []

    def draw(who: Any, prompts: list[str], seeds: list[int]) -> np.ndarray:
        drawn.extend((who, prompt, seed) for prompt, seed in zip(prompts, seeds, strict=True))
        # What the model draws of the first case's adversarial prompt is white.
        white = [
            who is model and seed == 1 and prompt != CASES[0].prompt
            for prompt, seed in zip(prompts, seeds, strict=True)
        ]
        return np.stack([np.full((16, 16, 3), 255 * bright, dtype=np.uint8) for bright in white])

    def bright(pictures: np.ndarray) -> np.ndarray:
        return np.asarray(pictures.mean(axis=(1, 2, 3)) > 127)

    attack = build("unlearndiffatk", {**SMALL, "together": 2})
    found = attack.search(model, CAR, CASES, bright, base=base, draw=draw)
    assert [(row.after, row.tries) for row in found] == [(True, 1), (False, 2)]
    assert [prompt for who, prompt, _ in drawn if who is base] == [case.prompt for case in CASES]
    tried = [(prompt, seed) for who, prompt, seed in drawn if who is model][2:]
    assert tried[0] == (found[0].prompt, 1)
    assert [seed for _, seed in tried] == [1, 2, 2]
    assert tried[-1][0] == found[1].prompt


def test_no_weight_and_no_cache_is_changed(model: DiffusionBackend, base: DiffusionBackend) -> None:
    before = [network.fingerprint() for network in (model, base)]
    text = model.encode_text(["a car"]).hidden.clone()
    build("unlearndiffatk", SMALL).search(model, CAR, CASES[:1], never, base=base, sampling=HOW)
    assert [network.fingerprint() for network in (model, base)] == before
    assert torch.equal(model.encode_text(["a car"]).hidden, text)
    assert not any(p.requires_grad or p.grad is not None for p in model.tensors().values())


def test_two_text_encoders_are_searched_as_one() -> None:
    model = DiffusionBackend.from_pipeline(tiny.xl_pipeline(seed=1))
    base = DiffusionBackend.from_pipeline(tiny.xl_pipeline(seed=2))
    attack = build("unlearndiffatk", SMALL)
    (found,) = attack.search(model, CAR, CASES[:1], never, base=base, sampling=HOW)
    assert found.prompt.endswith(f" {CASES[0].prompt}")


def test_timesteps_are_one_of_each_part() -> None:
    for seed in range(5):
        drawn = timesteps_of(1000, 7, torch.Generator().manual_seed(seed))
        edges = [i * 1000 // 7 for i in range(8)]
        for value, low, high in zip(sorted(drawn.tolist()), edges[:-1], edges[1:], strict=True):
            assert low <= value < high
    assert sorted(timesteps_of(5, 5, torch.Generator().manual_seed(0)).tolist()) == [0, 1, 2, 3, 4]


def test_too_many_timesteps_or_tokens_are_refused(model: DiffusionBackend, base: DiffusionBackend) -> None:
    for options, message in (({"timesteps": 1001}, r"1\.\.1000"), ({"tokens": 15}, r"1\.\.14")):
        with pytest.raises(UserError, match=message):
            build("unlearndiffatk", options).search(model, CAR, CASES, never, base=base, sampling=HOW)


def test_a_search_lowers_its_loss(model: DiffusionBackend, base: DiffusionBackend) -> None:
    """P4D against random tokens, on noise that neither has seen: the smaller distance is the search's."""
    attack: PrefixSearch = build(
        "p4d",
        {"tokens": 3, "timesteps": 2, "iterations": 25, "learning_rate": 0.05, "weight_decay": 0.0},
    )
    (found,) = attack.search(model, CAR, CASES[:1], never, base=base, sampling=HOW)
    words = Vocabulary(model.tokenizers)
    batch = noised(model, [0])
    many = Noised(
        [0] * 16,
        batch.clean.expand(16, -1, -1, -1),
        torch.randn((16, *model.latent_shape), generator=torch.Generator().manual_seed(77)),
        torch.linspace(30, 970, 16).long(),
        torch.empty(0),
    )
    many = replace(many, noisy=model.add_noise(many.clean, many.noise, many.t))

    def loss(ids: Tensor) -> float:
        with torch.no_grad():
            hot = one_hot(words, ids).expand(16, -1, -1)
            return float(attack.losses(job(model, base, "p4d"), words, many, hot).mean())

    chance = [loss(words.draw([3], torch.Generator().manual_seed(seed))) for seed in range(12)]
    assert loss(torch.tensor(words.read(found.prompt))) < np.mean(chance)
