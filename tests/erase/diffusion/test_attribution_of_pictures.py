"""The measured scope on a network that draws."""

from __future__ import annotations

import torch

import tiny_erasure
from oubliette.backends.hooks import blocks_of
from oubliette.erase.prepare import DiffusionData, prepare
from oubliette.train.attribution import attribution, zeroed
from oubliette.train.gradients import step_rng


def data(count: int) -> tuple[tiny_erasure.DiffusionBackend, DiffusionData]:
    model = tiny_erasure.backend()
    return model, prepare(model, tiny_erasure.request(picture_count=count), seed=1, show_progress=False)


def test_the_forget_loss_is_that_of_the_concepts_pictures_under_one_noise() -> None:
    model, made = data(3)
    latents, prompts = made.target_latents(), [item.target for item in made.items]
    rng = step_rng(1, 0, "forget loss")
    order = torch.randperm(3, generator=rng)
    noise = torch.randn(latents.shape, generator=rng)
    t = torch.randint(model.train_timesteps, (3,), generator=rng)
    total = 0.0
    for place, row in enumerate(order.tolist()):
        at, eps = t[place : place + 1], noise[place : place + 1]
        noisy = model.add_noise(latents[row : row + 1], eps, at)
        with torch.no_grad():
            made_of = model.predict(noisy, at, model.encode_text([prompts[row]]))
        total += float((made_of - eps).square().mean())
    assert abs(made.forget_loss(model) - total / 3) < 1e-5
    assert made.forget_loss(model) == made.forget_loss(model)


def test_few_pictures_are_drawn_however_many_there_are() -> None:
    _, made = data(20)
    assert (made.measured().pictures, made.measured().forwards) == (16, 16)
    assert data(2)[1].measured().pictures == 2


def test_a_unets_blocks_are_taken_out_one_by_one() -> None:
    model, made = data(2)
    blocks = blocks_of(model.modules()["unet"])
    choice = attribution.choose(model, 2, lambda: made.forget_loss(model), 2, False)
    whole = made.forget_loss(model)
    with zeroed(list(blocks[0].parameters())):
        assert choice.scores[0] == abs(made.forget_loss(model) - whole) > 0
    assert len(choice.scores) == len(blocks)
    assert choice.names
    assert all(
        name.startswith("unet.") and "norm" not in name.rpartition(".")[0].rpartition(".")[2]
        for name in choice.names
    )


def test_the_most_that_may_move_are_the_largest_blocks() -> None:
    model = tiny_erasure.backend()
    free = model.tensors()
    sizes = [sum(free[name].numel() for name in block) for block in attribution.by_block(model)]
    assert len(set(sizes)) > 1
    for top in range(1, len(sizes) + 1):
        most = attribution.largest(model, top, free)
        assert sum(free[name].numel() for name in most) == sum(sorted(sizes)[-top:])
    assert not set(attribution.largest(model, 1, {})) & set(free)
