"""STEREO: its composed target, its search, and that neither leaves a trace where it should not."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import tiny_erasure
from oubliette.erase.diffusion import stereo
from oubliette.erase.diffusion.stereo import Stereo, projected
from oubliette.erase.diffusion.stereo_search import Inversion, Term, encoded, search, terms_in_turn
from oubliette.erase.request import PromptPair
from oubliette.train.config import TrainConfig
from oubliette.train.loop import Loop
from oubliette.train.weights import Weights

FAST = {"rounds": 2, "erase_steps": 1, "inversion_steps": 1, "trajectory_steps": 3}
WIDTH = 32


def words(concepts: int = 1, found: int = 2) -> torch.Tensor:
    return torch.randn(concepts, found, 1, WIDTH, generator=torch.Generator().manual_seed(0)) / 30


def given(case: tiny_erasure.Prepared, found: torch.Tensor | None = None) -> torch.Tensor:
    """The words, put where the search would leave them."""
    found = words() if found is None else found
    case.method.load_state({"words": found})
    return found


def test_projected_guidance_is_orthogonal_and_no_longer_than_its_limit() -> None:
    rng = torch.Generator().manual_seed(0)
    direction, along = (torch.randn(3, 2, 4, 4, generator=rng) for _ in range(2))
    found = projected(direction, along, None)
    assert float((found * along).flatten(1).sum(1).abs().max()) < 1e-4
    kept = direction - found
    cosine = torch.nn.functional.cosine_similarity(kept.flatten(1), along.flatten(1)).abs()
    torch.testing.assert_close(cosine, torch.ones(3))
    short = projected(direction, torch.zeros_like(along), 0.5)
    torch.testing.assert_close(short.flatten(1).norm(dim=1), torch.full((3,), 0.5))
    torch.testing.assert_close(projected(direction, torch.zeros_like(along), 100.0), direction)


@pytest.mark.parametrize("normalise", ["apg", "none"])
def test_the_target_goes_to_the_anchor_and_away_from_the_concept_and_its_words(normalise: str) -> None:
    case = tiny_erasure.Prepared(Stereo, normalise=normalise, guidance=1.5, **FAST)
    found = given(case)
    draw = case.draw()
    unet, model = case.model.pipe.unet, case.model
    with torch.no_grad(), case.weights.originals():

        def said(hidden: torch.Tensor) -> torch.Tensor:
            hidden = hidden.expand(len(draw["noisy"]), -1, -1)
            return unet(draw["noisy"], draw["t"], encoder_hidden_states=hidden).sample

        empty, anchor, concept = (said(model.encode_text([word]).hidden) for word in ("", "object", "car"))
        learned = [said(model.encode_embeddings(found[0, at][None], [""]).hidden) for at in range(2)]
    away = torch.stack([concept, *learned]).mean(0) - empty
    direction = (anchor - empty) - away
    if normalise == "apg":
        flat, base = direction.flatten(1), empty.flatten(1)
        parallel = (flat * base).sum(1, keepdim=True) / (base * base).sum(1, keepdim=True) * base
        direction = (flat - parallel).view_as(direction)
    torch.testing.assert_close(draw["goal"], empty + 1.5 * direction, rtol=1e-4, atol=2e-5)
    mine = unet(draw["noisy"], draw["t"], encoder_hidden_states=encoded(model, draw["terms"]).hidden).sample
    torch.testing.assert_close(case.method.loss("forget", draw), (mine - draw["goal"]).square().mean())


def test_prompts_and_words_take_turns_within_each_concept() -> None:
    pairs = [PromptPair(f"target {slot}", f"anchor {slot}", slot % 2) for slot in range(6)]
    found = words(2, 2)
    terms = terms_in_turn(pairs, found, 0, ["object", "painting"])
    assert [term.word is None for term in terms] == [True, True, False, False, False, False]
    assert terms[0].pair.anchor == "anchor 0"
    for slot in range(2, 6):
        assert torch.equal(terms[slot].word, found[slot % 2, slot // 2 - 1])
        assert terms[slot].pair.anchor == ["object", "painting"][slot % 2]
    assert terms_in_turn(pairs[:2], found, 6, ["object", "painting"])[0].word is None


def test_terms_are_encoded_in_their_order() -> None:
    model, found = tiny_erasure.backend(), words()
    pair = PromptPair("a car", "an object")
    terms = [Term(pair, found[0, 1]), Term(pair), Term(pair, found[0, 0])]
    hidden = encoded(model, terms).hidden
    assert torch.equal(hidden[1], model.encode_text(["a car"]).hidden[0])
    for row, at in ((0, 1), (2, 0)):
        alone = model.encode_embeddings(found[0, at][None], [""]).hidden[0]
        torch.testing.assert_close(hidden[row], alone, rtol=1e-4, atol=1e-6)


def test_a_word_learns_by_the_denoising_loss_and_nothing_else_moves() -> None:
    model = tiny_erasure.backend()
    before = model.fingerprint()
    clean = torch.randn(4, *model.latent_shape, generator=torch.Generator().manual_seed(0))
    word = torch.nn.Parameter(words()[0, 0].clone())
    objective = Inversion(word, clean)
    config = TrainConfig(steps=1, batch=2, learning_rate=1e-2)
    loop = Loop(model, objective, None, Weights({"word": word}), config, show_progress=False)
    draw = objective.draw(0, torch.Generator().manual_seed(1), 2)
    signal = model.pipe.scheduler.alphas_cumprod[draw["t"]].view(-1, 1, 1, 1)
    noise = draw["target"]
    back = (draw["noisy"] - (1 - signal).sqrt() * noise) / signal.sqrt()
    assert all(any(torch.allclose(one, known, atol=1e-2) for known in clean) for one in back)
    hidden = model.encode_embeddings(word[None].expand(2, -1, -1), ["", ""]).hidden
    wanted = (model.pipe.unet(draw["noisy"], draw["t"], hidden).sample - noise).square().mean()
    torch.testing.assert_close(objective.loss("invert", draw), wanted)
    start = word.detach().clone()
    loop.run()
    assert not torch.equal(word, start)
    assert model.fingerprint() == before


@pytest.mark.parametrize("scope", ["xattn-kv", "text-encoder"])
def test_the_search_leaves_the_weights_as_they_stood_and_its_words_are_of_the_seed(scope: str) -> None:
    asked = tiny_erasure.request(tiny_erasure.CAR, tiny_erasure.VAN_GOGH)
    case, same, other = (
        tiny_erasure.Prepared(Stereo, asked=asked, scope=scope, seed=seed, **FAST) for seed in (3, 3, 4)
    )
    originals = {name: tensor.clone() for name, tensor in case.weights.original.items()}
    now = [parameter.detach().clone() for parameter in case.weights.parameters]
    found = search(case.method, 2)
    assert found.shape == (2, 2, 1, WIDTH)
    assert torch.equal(found, search(same.method, 2))
    assert not torch.equal(found, search(other.method, 2))
    for name, before, after in zip(case.weights.names, now, case.weights.parameters, strict=True):
        assert torch.equal(before, after)
        assert torch.equal(case.weights.original[name], originals[name])
    name = case.model.tokenizers[0]("van gogh", add_special_tokens=False).input_ids
    start = case.model.token_embeddings(torch.tensor([name])).mean(1)
    assert 0 < float((found[1, 0] - start).abs().max()) < 0.011  # two steps of Adam at most, of 5e-3 each


def test_the_second_stage_starts_at_the_original_weights() -> None:
    loop = tiny_erasure.loop(Stereo, steps=1, options=FAST | {"erase_learning_rate": 1.0})
    originals = {name: tensor.clone() for name, tensor in loop.weights.original.items()}
    loop.run()
    largest = max(
        float((p.detach() - originals[n]).abs().max())
        for n, p in loop.model.tensors().items()
        if n in originals
    )
    assert 0 < largest < 2e-3  # one step of AdamW at 1e-3, not the search's at 1


def test_a_resumed_run_ends_in_the_same_weights_and_seeks_no_word_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def loop(folder: str) -> Loop:
        train = {"checkpoint_every": 1}
        return tiny_erasure.loop(Stereo, steps=2, options=FAST, train=train, checkpoint=tmp_path / folder)

    whole = loop("whole")
    whole.run()
    killed = loop("killed")
    killed.advance(1)

    def refuse(*_: object) -> torch.Tensor:
        raise AssertionError("the words were in the checkpoint")

    monkeypatch.setattr(stereo, "search", refuse)
    resumed = loop("killed")
    resumed.load_checkpoint()
    resumed.run()
    for one, other in zip(whole.weights.parameters, resumed.weights.parameters, strict=True):
        assert torch.equal(one, other)
