"""The denoising loss against its definition, with diffusers' own parts."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from attack.attacked import diffusion, pictures
from oubliette.core.errors import UserError
from oubliette.train.tasks.denoising import Denoising

CAPTIONS = ["a photo of a car", "a red car", "a cat", ""]


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_the_loss_is_the_definition(prediction):
    model = diffusion(prediction)
    task = Denoising(model, pictures(), CAPTIONS)
    batch = task.draw(rng(), 3)
    pipe = model.pipe
    noisy = pipe.scheduler.add_noise(batch.clean, batch.noise, batch.t)
    hidden, _ = pipe.encode_prompt(list(batch.captions), "cpu", 1, False)
    predicted = pipe.unet(noisy, batch.t, encoder_hidden_states=hidden).sample
    target = batch.noise
    if prediction == "v_prediction":
        target = pipe.scheduler.get_velocity(batch.clean, batch.noise, batch.t)
    torch.testing.assert_close(task.loss(model, batch), F.mse_loss(predicted, target))


def test_latents_are_the_encoders_means():
    model = diffusion()
    given = pictures()
    pixels = torch.from_numpy(given).permute(0, 3, 1, 2).float() / 127.5 - 1
    with torch.no_grad():
        latents = model.pipe.vae.encode(pixels).latent_dist.mean * model.pipe.vae.config.scaling_factor
    batch = Denoising(model, given, CAPTIONS).draw(rng(), 4)
    order = [CAPTIONS.index(caption) for caption in batch.captions]
    torch.testing.assert_close(batch.clean, latents[order])
    same = Denoising(model, latents, CAPTIONS).draw(rng(), 4)
    torch.testing.assert_close(same.clean, batch.clean)


def test_draws_come_from_the_generator_alone():
    model = diffusion()
    task = Denoising(model, pictures(), CAPTIONS)
    one, two, other = task.draw(rng(1), 6), task.draw(rng(1), 6), task.draw(rng(2), 6)
    assert one.captions == two.captions
    assert all(torch.equal(getattr(one, name), getattr(two, name)) for name in ("clean", "noise", "t"))
    assert not torch.equal(one.noise, other.noise)
    assert set(one.captions[:4]) == set(CAPTIONS)  # none twice while there are others
    steps = torch.cat([task.draw(rng(seed), 50).t for seed in range(40)])
    assert int(steps.min()) >= 0
    assert int(steps.max()) < model.train_timesteps
    # 2000 uniform draws from 0..999: the mean's standard error is 6.5.
    assert abs(float(steps.float().mean()) - 499.5) < 26


def test_a_prior_adds_its_mean_with_its_weight():
    model = diffusion()
    prior = (pictures(2, seed=5), ["a vehicle", "a vehicle"])
    task = Denoising(model, pictures(), CAPTIONS, prior=prior, prior_weight=0.25)
    batch = task.draw(rng(), 3)
    assert batch.prior == 3
    assert batch.captions[3:] == ("a vehicle",) * 3
    alone = Denoising(model, pictures(), CAPTIONS)
    losses = []
    for rows in (slice(0, 3), slice(3, 6)):
        part = type(batch)(batch.clean[rows], batch.noise[rows], batch.t[rows], batch.captions[rows])
        losses.append(alone.loss(model, part))
    torch.testing.assert_close(task.loss(model, batch), losses[0] + 0.25 * losses[1])
    plain = alone.draw(rng(), 3)
    assert plain.captions == batch.captions[:3]  # the prior comes after, and does not shift the draws


def test_the_text_has_a_graph_exactly_where_it_is_trained(monkeypatch):
    model = diffusion()
    task = Denoising(model, pictures(), CAPTIONS)
    batch = task.draw(rng(), 2)
    asked = []
    encode = model.encode_text
    monkeypatch.setattr(
        model, "encode_text", lambda p, *, grad: (asked.append(grad), encode(p, grad=grad))[1]
    )
    unet = model.tensors()["unet.conv_in.weight"].requires_grad_()
    text = model.tensors()["text_encoder.final_layer_norm.weight"]
    (gradient,) = torch.autograd.grad(task.loss(model, batch), [unet])
    assert gradient.abs().sum() > 0
    text.requires_grad_()
    (gradient,) = torch.autograd.grad(task.loss(model, batch), [text])
    assert gradient.abs().sum() > 0
    assert asked == [False, True]


def test_other_words_for_the_same_pictures():
    model = diffusion()
    task = Denoising(model, pictures(), CAPTIONS, prior=(pictures(2), ["a car", "a car"]))
    other = task.reworded(lambda caption: caption.replace("car", "<it>"))
    assert other.captions == ("a photo of a <it>", "a red <it>", "a cat", "")
    assert task.captions == tuple(CAPTIONS)
    one, two = task.draw(rng(), 4), other.draw(rng(), 4)
    assert torch.equal(one.clean, two.clean)
    assert two.captions[4:] == ("a car",) * 4
    with pytest.raises(UserError, match="no caption holds the words"):
        task.reworded(str)


def test_what_does_not_fit_is_refused():
    model = diffusion()
    for given, captions, match in (
        (pictures()[:0], [], "no pictures to train on"),
        (pictures(), CAPTIONS[:3], "4 pictures, 3 captions"),
        (np.zeros((4, 8, 8, 3), np.uint8), CAPTIONS, r"uint8 \(16, 16, 3\), found uint8 \(8, 8, 3\)"),
        (pictures().astype(np.float32), CAPTIONS, "found float32"),
        (torch.zeros(4, 4, 4, 4), CAPTIONS, r"latents are \(4, 8, 8\), found \(4, 4, 4\)"),
    ):
        with pytest.raises(UserError, match=match):
            Denoising(model, given, captions)
    with pytest.raises(UserError, match="at least 0, found -1"):
        Denoising(model, pictures(), CAPTIONS, prior_weight=-1)


def test_halves_are_disjoint_and_hold_every_row_with_its_caption():
    model = diffusion()
    task = Denoising(model, pictures(), CAPTIONS)
    whole = task.draw(rng(), 4)
    by_caption = dict(zip(whole.captions, whole.clean, strict=True))
    one, other = task.halves(3)
    assert sorted((*one.captions, *other.captions)) == sorted(CAPTIONS)
    assert (len(one), len(other)) == (2, 2)
    for half in (one, other):
        drawn = half.draw(rng(), len(half))
        for caption, clean in zip(drawn.captions, drawn.clean, strict=True):
            assert torch.equal(clean, by_caption[caption])
    assert task.halves(3)[0].captions == one.captions
    with pytest.raises(UserError, match="at least two"):
        one.halves(0)[0].halves(0)


def test_a_batch_is_drawn_under_anothers_noise():
    model = diffusion()
    task = Denoising(model, pictures(), CAPTIONS)
    batch = task.draw(rng(1), 3)
    like = task.draw_like(rng(2), batch)
    assert torch.equal(like.noise, batch.noise)
    assert torch.equal(like.t, batch.t)
    assert not torch.equal(like.clean, batch.clean)
    assert torch.equal(like.clean, task.draw(rng(2), 3).clean)
    halved = Denoising(model, pictures()[:1], CAPTIONS[:1])
    assert len(halved.draw_like(rng(2), batch).captions) == 3
