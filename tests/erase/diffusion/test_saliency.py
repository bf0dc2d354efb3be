"""The saliency mask against gradients taken picture by picture, and the exact choice of the greatest."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import tiny_erasure
import tiny_language
from oubliette.backends import open_model
from oubliette.core.errors import UserError
from oubliette.erase import ELEMENTS
from oubliette.erase.diffusion.saliency import RandomElements, Saliency, greatest
from oubliette.erase.prepare import prepare
from oubliette.erase.run import erase
from oubliette.recipe import build_recipe
from oubliette.train.gradients import step_rng
from oubliette.train.scope import select

CONCEPT = {"name": "car", "anchor": "object"}


@pytest.fixture(scope="module")
def case():
    model = tiny_erasure.backend()
    return model, prepare(model, tiny_erasure.request(), seed=1, show_progress=False)


def by_hand(model, data, named, batch: int, guidance: float) -> list[torch.Tensor]:
    """Each picture's own gradient, by diffusers' calls, summed."""
    unet = model.pipe.unet
    levels = model.pipe.scheduler.alphas_cumprod
    latents, prompts = data.target_latents(), [item.target for item in data.items]
    total = [torch.zeros_like(each) for each in named.values()]
    for each in named.values():
        each.requires_grad_()
    for number, first in enumerate(range(0, len(prompts), batch)):
        clean = latents[first : first + batch]
        rng = step_rng(5, number, "saliency")
        t = torch.randint(1000, (len(clean),), generator=rng)
        noise = torch.randn(clean.shape, generator=rng)
        for row in range(len(clean)):
            kept = levels[t[row]]
            noisy = (kept.sqrt() * clean[row] + (1 - kept).sqrt() * noise[row])[None]
            full, blank = (
                unet(noisy, t[row], encoder_hidden_states=model.encode_text([prompt]).hidden).sample
                for prompt in (prompts[first + row], "")
            )
            guided = blank + (guidance + 1) * (full - blank)
            loss = (guided - noise[row]).pow(2).mean()
            for held, gradient in zip(total, torch.autograd.grad(loss, list(named.values())), strict=True):
                held += gradient
    for each in named.values():
        each.requires_grad_(False)
    return total


def test_it_is_the_greatest_half_of_the_summed_gradients_of_the_guided_loss(case) -> None:
    model, data = case
    named = select(model, "xattn-kv")
    mask = Saliency(batch=4, guidance=2.0)
    found = mask.sums(model, data, named, 5)
    expected = by_hand(model, data, named, 4, 2.0)
    for one, other in zip(found.values(), expected, strict=True):
        torch.testing.assert_close(one, other, rtol=2e-3, atol=2e-6)
    assert not any(each.requires_grad for each in named.values())
    chosen = torch.cat([each.flatten() for each in mask.masks(model, data, named, 5).values()])
    scores = torch.cat([each.abs().flatten() for each in found.values()])
    assert int(chosen.sum()) == len(scores) // 2
    assert float(scores[chosen].min()) >= float(scores[~chosen].max())
    # A negated loss, as the paper writes it, has the same magnitudes; fewer pictures have others.
    few = Saliency(batch=4, batches=1, guidance=2.0).sums(model, data, named, 5)
    assert not torch.allclose(next(iter(few.values())), next(iter(found.values())))


def test_what_the_pictures_do_not_depend_on_is_chosen_last(case) -> None:
    model, data = case
    named = select(model, "re:^text_encoder|attn2.to_v")
    sums = Saliency(batches=1).sums(model, data, named, 0)
    unread = [name for name, each in sums.items() if not each.any()]
    masks = greatest(sums, 0.5, "saliency")
    assert not any(bool(masks[name].any()) for name in unread)
    assert any(bool(mask.any()) for name, mask in masks.items() if name.startswith("text_encoder"))
    with pytest.raises(UserError, match="depend on no tensor of the scope"):
        Saliency(batches=1).masks(model, data, {"elsewhere": torch.nn.Parameter(torch.zeros(2))}, 0)


@settings(deadline=None, max_examples=60)
@given(
    sizes=st.lists(st.integers(1, 9), min_size=1, max_size=4),
    share=st.floats(0.01, 1.0),
    levels=st.integers(1, 6),
    seed=st.integers(0, 1000),
)
def test_the_count_is_exact_and_ties_go_in_order(sizes, share, levels, seed) -> None:
    """Against a stable sort, with few levels so that ties are the rule."""
    rng = torch.Generator().manual_seed(seed)
    scores = [torch.randint(-levels, levels + 1, (size,), generator=rng).float() * 1e-20 for size in sizes]
    count = int(share * sum(sizes))
    named = {str(index): score.clone() for index, score in enumerate(scores)}
    if count == 0:
        with pytest.raises(UserError, match="less than one element"):
            greatest(named, share, "x")
        return
    flat = torch.cat(scores).abs()
    expected = torch.zeros(len(flat), dtype=torch.bool)
    expected[torch.sort(flat, descending=True, stable=True).indices[:count]] = True
    assert torch.equal(torch.cat(list(greatest(named, share, "x").values())), expected)


def test_random_elements_are_as_many_and_follow_the_seed(case) -> None:
    model, data = case
    named = select(model, "xattn")
    one, same, other = (RandomElements(0.25).masks(model, data, named, seed) for seed in (1, 1, 2))
    assert sum(int(mask.sum()) for mask in one.values()) == sum(each.numel() for each in named.values()) // 4
    assert all(torch.equal(one[name], same[name]) for name in named)
    assert not all(torch.equal(one[name], other[name]) for name in named)


@pytest.mark.parametrize("elements", [{"name": "saliency", "share": 0.25}, "random"])
def test_an_erasure_moves_the_chosen_elements_alone(elements, tiny_folder) -> None:
    recipe = build_recipe(
        {
            "concepts": [CONCEPT],
            "method": {"name": "salun"},
            "scope": {"name": "full", "elements": elements},
            "train": {"steps": 2, "batch": 2, "learning_rate": 1e-3, "weight_decay": 0.1},
            "data": {"prompts": 4, "pictures": 4, "picture_steps": 2},
        }
    )
    model = open_model(tiny_folder, device="cpu")
    result = erase(model, recipe, show_progress=False)
    moved = sum(int((delta != 0).sum()) for delta in result.weights.delta().values())
    whole = sum(each.numel() for each in select(model, "full").values())
    share = 0.25 if isinstance(elements, dict) else 0.5
    assert 0.8 * share * whole < moved <= int(share * whole)


def test_what_cannot_be_is_refused(case, tmp_path) -> None:
    for options, words in (
        ({"share": 0.0}, "share must lie above 0"),
        ({"batch": 0}, "batch must be at least 1"),
        ({"guidance": -1.0}, "guidance must be at least 0"),
    ):
        with pytest.raises(UserError, match=words):
            ELEMENTS.build({"name": "saliency", **options})
    language = open_model(tiny_language.save(tmp_path / "model", "llama"), device="cpu")
    with pytest.raises(UserError, match="is of pictures"):
        Saliency().masks(language, None, language.tensors(), 0)  # type: ignore[arg-type]
    with pytest.raises(UserError, match="not finite"):
        greatest({"a": torch.tensor([1.0, float("nan")])}, 0.5, "saliency")
