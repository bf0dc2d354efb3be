"""What the diffusion erasers are given: pairs, items, pictures drawn once."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import tiny_erasure
from oubliette.core.errors import UserError
from oubliette.data.concept import Concept
from oubliette.erase.latents import CacheWarning
from oubliette.erase.prepare import prepare, target_of
from oubliette.erase.request import ErasureRequest, PromptPair
from tiny_erasure import CAR, VAN_GOGH


@pytest.fixture(scope="module")
def model():
    return tiny_erasure.backend()


def test_anchors_that_the_banks_words_name_are_refused() -> None:
    request = tiny_erasure.request(
        Concept("car", "a sailing boat"), bank="world", avoid=(Concept("boat", "toy"),)
    )
    with pytest.raises(
        UserError, match=r"every anchor prompt of 'car' names '.*boat', which is itself to be"
    ):
        prepare(tiny_erasure.backend(), request, seed=0, show_progress=False)


def test_items_cycle_through_concepts_and_each_ones_pairs(model) -> None:
    request = tiny_erasure.request(CAR, VAN_GOGH, prompt_count=4, picture_count=9)
    data = prepare(model, request, seed=0, show_progress=False)
    assert [sum(pair.concept == index for pair in data.pairs) for index in (0, 1)] == [4, 4]
    assert [item.concept for item in data.items] == [0, 1] * 4 + [0]
    own = [pair for pair in data.pairs if pair.concept == 0]
    assert [item for item in data.items if item.concept == 0] == [own[index % 4] for index in range(5)]
    for pair in data.pairs:
        assert ("car", "van gogh")[pair.concept] in pair.target
        assert ("car", "van gogh")[pair.concept] not in pair.anchor


def test_no_pair_teaches_to_keep_what_another_one_erases(model) -> None:
    request = tiny_erasure.request(
        Concept("fish", "object", "object"),
        Concept("mosaic", "picture", "style"),
        bank="world",
        prompt_count=60,
    )
    data = prepare(model, request, seed=0, show_progress=False)
    assert [sum(pair.concept == index for pair in data.pairs) for index in (0, 1)] == [60, 60]
    for pair in data.pairs:
        assert "mosaic" not in pair.anchor
        assert "fish" not in pair.anchor
    kept = data.retain_prompts()
    assert len(kept) == 120
    assert not any("fish" in prompt or "mosaic" in prompt for prompt in kept)


def test_the_same_seed_gives_the_same_and_another_gives_another(model) -> None:
    request = tiny_erasure.request()
    one, two, other = (prepare(model, request, seed=seed, show_progress=False) for seed in (4, 4, 5))
    assert one.items == two.items
    assert torch.equal(one.anchor_latents(), two.anchor_latents())
    assert not torch.equal(one.anchor_latents(), other.anchor_latents())


def test_pick_shares_a_step_out_among_concepts(model) -> None:
    request = tiny_erasure.request(CAR, VAN_GOGH, Concept("ada lovelace", "woman", "person"), picture_count=7)
    data = prepare(model, request, seed=0, show_progress=False)
    picked = data.pick(1, torch.Generator().manual_seed(0), 4)
    assert [data.items[index].concept for index in picked] == [1, 2, 0, 1]
    assert picked == data.pick(1, torch.Generator().manual_seed(0), 4)


def test_latents_are_those_the_base_draws_for_the_anchor_prompts(model) -> None:
    data = prepare(model, tiny_erasure.request(picture_count=3), seed=2, show_progress=False)
    latents = data.anchor_latents()
    assert latents.shape == (3, *model.latent_shape)
    prompts = [item.anchor for item in data.items]
    first = 2 * 1_000_003
    alone = [
        model.draw_latents([prompt], [first + index], steps=2, guidance=2.0)
        for index, prompt in enumerate(prompts)
    ]
    torch.testing.assert_close(latents, torch.cat(alone), rtol=1e-4, atol=1e-4)
    assert data.anchor_latents() is latents


def test_the_cache_spares_the_drawing_and_gives_the_same_bits(model, tmp_path: Path, monkeypatch) -> None:
    request = tiny_erasure.request()
    fresh = prepare(model, request, seed=0, cache=tmp_path, show_progress=False).anchor_latents()
    files = list(tmp_path.rglob("*"))
    assert sum(path.suffix == ".safetensors" for path in files) == 6
    assert not [path for path in files if path.suffix == ".tmp"]
    monkeypatch.setattr(model, "draw_latents", lambda *a, **k: pytest.fail("drawn again"))
    assert torch.equal(prepare(model, request, seed=0, cache=tmp_path).anchor_latents(), fresh)


def test_the_cache_draws_what_is_missing_alone_and_never_another_models(tmp_path: Path, monkeypatch) -> None:
    model = tiny_erasure.backend()
    request = tiny_erasure.request()
    prepare(model, request, seed=0, cache=tmp_path, show_progress=False).anchor_latents()
    drawn: list[int] = []
    draw = model.draw_latents
    monkeypatch.setattr(model, "draw_latents", lambda p, s, **k: drawn.append(len(p)) or draw(p, s, **k))
    next(tmp_path.rglob("*.safetensors")).unlink()
    prepare(model, request, seed=0, cache=tmp_path, show_progress=False).anchor_latents()
    with torch.no_grad():
        next(iter(model.tensors().values())).add_(0.1)
    prepare(model, request, seed=0, cache=tmp_path, show_progress=False).anchor_latents()
    assert drawn == [6, 6]  # a batch is drawn whole, or its bits would differ


def test_a_broken_cache_file_is_named(model, tmp_path: Path) -> None:
    prepare(model, tiny_erasure.request(), seed=0, cache=tmp_path, show_progress=False).anchor_latents()
    next(tmp_path.rglob("*.safetensors")).write_bytes(b"nothing")
    again = prepare(model, tiny_erasure.request(), seed=0, cache=tmp_path, show_progress=False)
    with pytest.warns(CacheWarning, match="not a cached latent .* drawn again"):
        again.anchor_latents()


def test_users_pairs_and_retain_prompts_take_the_banks_place(model) -> None:
    pairs = (PromptPair("a car by night", "night"),)
    data = prepare(
        model, tiny_erasure.request(pairs=pairs, retain=("a dog", "a cat")), seed=0, show_progress=False
    )
    assert set(data.items) == set(pairs)
    assert data.retain_prompts() == ("a dog", "a cat")
    captions, latents = data.prior("retain")
    assert captions == ["a dog", "a cat"] * 3
    assert len(latents) == 6
    assert data.prior("retain")[1] is latents


def test_the_banks_retain_prompts_name_no_concept(model) -> None:
    prompts = prepare(model, tiny_erasure.request(CAR, VAN_GOGH), seed=0).retain_prompts()
    assert prompts
    assert not any(word in prompt for prompt in prompts for word in ("car ", "van gogh"))


def folder(path: Path, count: int, caption: str | None) -> Path:
    path.mkdir()
    rng = np.random.default_rng(0)
    for index in range(count):
        Image.fromarray(rng.integers(0, 255, (20, 30, 3), dtype=np.uint8)).save(path / f"{index}.png")
    if caption is not None:
        rows = [json.dumps({"file_name": f"{index}.png", "text": caption}) for index in range(count)]
        (path / "metadata.jsonl").write_text("\n".join(rows))
    return path


def test_users_pictures_are_encoded_once_with_their_captions(model, tmp_path: Path) -> None:
    pictures = folder(tmp_path / "pictures", 3, "a photo of an object")
    data = prepare(model, tiny_erasure.request(pictures=pictures), seed=0, show_progress=False)
    assert set(data.items) == {PromptPair("a photo of a car", "a photo of an object")}
    assert data.anchor_latents().shape == (3, *model.latent_shape)
    side = model.picture_side
    middle = (
        Image.open(pictures / "0.png").crop((5, 0, 25, 20)).resize((side, side), Image.Resampling.LANCZOS)
    )
    pixels = torch.from_numpy(np.asarray(middle, np.float32).copy()).permute(2, 0, 1)[None] / 127.5 - 1
    torch.testing.assert_close(data.anchor_latents()[:1], model.encode_pictures(pixels), rtol=0.05, atol=0.05)


def test_pictures_without_captions_take_the_banks_prompts(model, tmp_path: Path) -> None:
    data = prepare(model, tiny_erasure.request(pictures=folder(tmp_path / "p", 4, None)), seed=0)
    assert len(data.items) == 4
    assert all("car" in item.target for item in data.items)


def test_a_caption_without_the_anchors_word_is_refused(model, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not hold the anchor 'object'"):
        prepare(model, tiny_erasure.request(pictures=folder(tmp_path / "p", 1, "a tree")), seed=0)


def test_targets_of_captions() -> None:
    assert target_of("An object on a hill", Concept("owl", "object")) == "An owl on a hill"
    assert target_of("a tree", VAN_GOGH) == "in van gogh's style, a tree"


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (ErasureRequest(), "no concept to erase"),
        (tiny_erasure.request(CAR, VAN_GOGH, picture_count=1), "too few for 2 concepts"),
        (
            tiny_erasure.request(CAR, VAN_GOGH, pairs=(PromptPair("a car", "x"),)),
            "no prompts were given .* 'van gogh'",
        ),
        (tiny_erasure.request(bank="nowhere"), "no prompt bank"),
    ],
)
def test_what_cannot_be_prepared_is_said_in_a_line(model, asked: ErasureRequest, message: str) -> None:
    with pytest.raises(UserError, match=message):
        prepare(model, asked, seed=0)


def test_pictures_of_the_concept_are_drawn_from_the_target_prompts(model) -> None:
    data = prepare(model, tiny_erasure.request(picture_count=3), seed=2, show_progress=False)
    latents = data.target_latents()
    prompt, seed = data.items[1].target, 2 * 1_000_003 + 250_000 + 1
    assert "car" in prompt
    assert torch.allclose(
        latents[1], model.draw_latents([prompt], [seed], steps=2, guidance=2.0)[0], atol=1e-5
    )
    assert data.target_latents() is latents


def test_prompts_of_an_earlier_erasure_name_nothing_that_is_to_go_now(model) -> None:
    request = tiny_erasure.request(
        Concept("mosaic", "picture", "style"),
        bank="world",
        prompt_count=40,
        avoid=(Concept("fish", "object"),),
    )
    found = prepare(model, request, seed=0, show_progress=False).erased_before()
    assert 20 < len(found) <= 41
    assert all("fish" in prompt for prompt in found)
    assert not any("mosaic" in prompt for prompt in found)
    plain = tiny_erasure.request(Concept("mosaic", "picture", "style"), bank="world")
    assert prepare(model, plain, seed=0, show_progress=False).erased_before() == []
