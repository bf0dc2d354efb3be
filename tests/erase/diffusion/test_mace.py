"""MACE's closed forms against brute force, its masks and its suppression on a tiny model."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import torch

import tiny_erasure
from oubliette.backends.diffusion import DiffusionBackend
from oubliette.core.errors import UserError
from oubliette.data.concept import Concept
from oubliette.erase.diffusion.attention import Attended, attention_layers, watching
from oubliette.erase.diffusion.closed import right_factor
from oubliette.erase.diffusion.mace import MACE, Fusion, Phrase, Sums, phrase, phrases, refinement
from oubliette.erase.diffusion.rank_one import (
    Subject,
    added,
    attention_inside,
    importance,
    masks_of,
    suppress,
)
from oubliette.erase.edit import Edit
from oubliette.erase.prepare import DiffusionData, prepare
from oubliette.erase.request import ErasureRequest, PromptPair

LAM, KEEP = 0.4, 0.6


def normal(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize(
    ("target", "anchor", "expected"),
    [
        ([0, 5, 6, 7, 1], [0, 5, 8, 7, 1], Phrase(2, 3, 3)),  # one word for one
        ([0, 5, 6, 9, 7, 1], [0, 5, 8, 7, 1], Phrase(2, 4, 3)),  # two words for one
        ([0, 5, 6, 7, 1], [0, 5, 7, 1], Phrase(2, 3, 2)),  # a word for none
        ([0, 6, 7, 1], [0, 1], Phrase(1, 3, 1)),  # the whole prompt for the empty one
        ([0, 5, 5, 1], [0, 5, 1], Phrase(2, 3, 2)),  # a doubled word: beginning and ending do not overlap
        ([0, 5, 1], [0, 5, 1], Phrase(3, 3, 3)),
    ],
)
def test_a_phrase_is_what_the_anchor_prompt_does_not_share(
    target: list[int], anchor: list[int], expected: Phrase
) -> None:
    assert phrase(target, anchor) == expected


def small_sums() -> tuple[Sums, dict[str, torch.Tensor]]:
    """Two concepts with one pair each, contexts of 6 tokens and width 12."""
    sums = Sums.empty(12, 2, torch.device("cpu"))
    rows, goals, own = [], [], []
    for concept, where in enumerate((Phrase(1, 3, 2), Phrase(2, 3, 5))):
        target, anchor = normal(6, 12, seed=concept), normal(6, 12, seed=10 + concept)
        anchor[: where.begin] = target[: where.begin]
        sums.add(concept, target, anchor, where)
        after = 6 - max(where.end, where.anchor_end)
        rows += [target[: where.begin], target[where.end : where.end + after]]
        goals += [anchor[: where.begin], anchor[where.anchor_end : where.anchor_end + after]]
        own.append(target[where.begin :])
    kept = normal(3, 12, seed=20)
    sums.kept += kept.T @ kept
    found = {"rows": torch.cat(rows), "goals": torch.cat(goals), "kept": kept}
    return sums, found | {f"own{index}": part for index, part in enumerate(own)}


def test_the_refinement_is_uces_form_on_the_tokens_beside_the_concept() -> None:
    sums, parts = small_sums()
    assert len(parts["rows"]) == 1 + 3 + 2 + 1
    expected = right_factor(
        parts["rows"], parts["goals"], parts["kept"], retain_weight=KEEP, regularisation=LAM
    )
    found = refinement(sums, regularisation=LAM, retain_weight=KEEP)
    torch.testing.assert_close(found, expected.dense)


def test_the_fusion_is_the_least_squares_solution() -> None:
    sums, parts = small_sums()
    refined = refinement(sums, regularisation=LAM, retain_weight=0.0)
    weight = normal(5, 12, seed=30)
    updates = [(normal(5, 1, seed=40 + i), normal(1, 12, seed=50 + i)) for i in range(2)]
    edit = Fusion(sums, refined, regularisation=LAM, retain_weight=KEEP).edit("w", weight, updates)
    first = weight + weight @ refined
    # One stacked least squares over the transposed weight: rows times their weights, as asked for.
    left = torch.cat(
        [parts["own0"], parts["own1"], KEEP**0.5 * parts["kept"], LAM**0.5 * torch.eye(12).double()]
    )
    asked = [parts[f"own{i}"] @ (first + up @ down).T for i, (up, down) in enumerate(updates)]
    right = torch.cat([*asked, KEEP**0.5 * parts["kept"] @ weight.T, LAM**0.5 * first.T])
    torch.testing.assert_close(weight + edit.delta, torch.linalg.lstsq(left, right).solution.T)


def test_one_concepts_update_is_kept_as_the_regularisation_vanishes() -> None:
    sums = Sums.empty(12, 1, torch.device("cpu"))
    target = normal(6, 12, seed=0)
    sums.add(0, target, target, Phrase(1, 3, 3))
    up, down = normal(5, 1, seed=1), normal(1, 12, seed=2)
    weight = normal(5, 12, seed=3)
    fusion = Fusion(sums, torch.zeros(12, 12).double(), regularisation=1e-10, retain_weight=0.0)
    delta = fusion.edit("w", weight, [(up, down)]).delta
    torch.testing.assert_close(delta @ target[1:].T, up @ down @ target[1:].T, rtol=1e-6, atol=1e-6)


def test_importance_is_the_published_density_whatever_the_number_of_timesteps() -> None:
    weights = importance(1000)
    t = torch.tensor([100.0, 300.0, 800.0]).double()
    expected = 1 / (1 + torch.exp(-0.05 * (t - 200))) - 1 / (1 + torch.exp(-0.05 * (t - 400)))
    torch.testing.assert_close(weights[t.long()], expected)
    torch.testing.assert_close(importance(500), weights[::2])
    assert bool((weights > 0).all())
    assert int(weights.argmax()) in range(295, 306)


@pytest.fixture(scope="module")
def model() -> DiffusionBackend:
    return tiny_erasure.backend()


@pytest.fixture(scope="module")
def asked() -> ErasureRequest:
    return tiny_erasure.request(tiny_erasure.CAR, tiny_erasure.VAN_GOGH)


@pytest.fixture(scope="module")
def data(model: DiffusionBackend, asked: ErasureRequest) -> DiffusionData:
    return prepare(model, asked, seed=1, show_progress=False)


@pytest.fixture(scope="module")
def subject(model: DiffusionBackend, asked: ErasureRequest, data: DiffusionData) -> Subject:
    return MACE(MACE.Options(), asked).subjects(model, data)[0]


def test_the_tokens_are_the_concepts_own(model: DiffusionBackend) -> None:
    pairs = [
        PromptPair("a photo of a red car in a street", "a photo of a red object in a street"),
        PromptPair("a photo in the style of van gogh", "a photo"),
    ]
    first, second = phrases(model, pairs)
    assert first == Phrase(6, 7, 7)
    end = len(model.tokenizers[0](pairs[1].target).input_ids) - 1
    assert second == Phrase(3, end, 3)


def test_each_concept_has_its_own_pictures(
    model: DiffusionBackend, asked: ErasureRequest, data: DiffusionData
) -> None:
    car, van_gogh = MACE(MACE.Options(), asked).subjects(model, data)
    assert all("car" in prompt for prompt in car.prompts)
    assert all("van gogh" in prompt for prompt in van_gogh.prompts)
    assert torch.equal(car.latents, data.target_latents()[::2])
    ids = model.tokenizers[0](car.prompts[0]).input_ids
    assert "car" in model.tokenizers[0].decode([ids[token] for token in car.tokens[0]])


def test_attention_inside_is_the_mean_over_what_is_inside() -> None:
    rng = torch.Generator().manual_seed(0)
    fine, coarse = (torch.rand(2, 3, side * side, 5, generator=rng) for side in (4, 2))
    masks = torch.zeros(2, 4, 4, dtype=torch.bool)
    masks[0, 0, 1] = masks[1, 3, 3] = masks[1, 2, 3] = True
    seen = [Attended("fine", fine), Attended("coarse", coarse)]
    tokens = [[1], [2, 4]]
    expected = (
        fine[0, :, 1, 1].square().mean()
        + fine[1][:, [11, 15]][:, :, [2, 4]].square().mean()
        + coarse[0, :, 0, 1].square().mean()
        + coarse[1, :, 3][:, [2, 4]].square().mean()
    ) / 4
    torch.testing.assert_close(attention_inside(seen, tokens, masks, "squared"), expected)
    one = attention_inside(seen[:1], [[1], [1]], masks[:1].repeat(2, 1, 1), "absolute")
    torch.testing.assert_close(one, fine[:, :, 1, 1].mean())


def test_masks_grow_as_the_share_shrinks_and_always_hold_the_greatest(
    model: DiffusionBackend, subject: Subject
) -> None:
    areas = []
    for share in (1.0, 0.9, 0.5, 0.0):
        masks = masks_of(
            model,
            subject,
            share=share,
            draws=2,
            weights=importance(1000),
            rng=torch.Generator().manual_seed(0),
        )
        assert masks.shape == (3, 8, 8)
        areas.append(masks.flatten(1).sum(1))
    assert bool((areas[0] >= 1).all())
    assert all(bool((one <= other).all()) for one, other in pairwise(areas))
    assert bool((areas[-1] == 64).all())


def test_an_added_update_acts_as_the_weight_with_it_and_goes(model: DiffusionBackend) -> None:
    name = model.text_facing()[0]
    weight = model.tensors()[name]
    up, down = normal(weight.shape[0], 1, seed=0).float(), normal(1, 32, seed=1).float()
    text = model.encode_text(["a car"])
    noisy = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        plain = model.predict(noisy, 5, text)
        with added(model, {name: (up, down)}):
            hooked = model.predict(noisy, 5, text)
        assert torch.equal(model.predict(noisy, 5, text), plain)
        held = weight.data
        weight.data = held + up @ down
        merged = model.predict(noisy, 5, text)
        weight.data = held
    torch.testing.assert_close(hooked, merged, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(hooked, plain, atol=1e-3)


def train(model: DiffusionBackend, subject: Subject, names: list[str], steps: int = 40) -> dict[str, Any]:
    return suppress(
        model,
        names,
        subject,
        torch.ones(len(subject), 8, 8, dtype=torch.bool),
        rank=1,
        steps=steps,
        batch=2,
        learning_rate=0.05,
        norm="squared",
        weights=importance(1000),
        rng=torch.Generator().manual_seed(3),
    )


def attention(model: DiffusionBackend, subject: Subject) -> float:
    t = torch.full((len(subject),), 300)
    with torch.no_grad(), watching(attention_layers(model)) as seen:
        model.predict(subject.latents, t, model.encode_text(subject.prompts))
    masks = torch.ones(len(subject), 8, 8, dtype=torch.bool)
    return float(attention_inside(seen, subject.tokens, masks, "squared"))


def test_suppression_takes_the_attention_off_and_leaves_the_model_alone(
    model: DiffusionBackend, subject: Subject
) -> None:
    before = model.fingerprint()
    factors = train(model, subject, model.text_facing())
    assert model.fingerprint() == before
    plain = attention(model, subject)
    with added(model, factors):
        assert attention(model, subject) < 0.5 * plain
    again = train(model, subject, model.text_facing(), steps=2)
    same = train(model, subject, model.text_facing(), steps=2)
    assert all(torch.equal(again[name][0], same[name][0]) for name in again)


def test_a_scope_without_a_say_in_the_attention_is_refused(model: DiffusionBackend, subject: Subject) -> None:
    last = max(name for name in model.text_facing() if name.endswith("to_v.weight"))  # the last to run
    with pytest.raises(UserError, match="none of the tensors in the scope has a say in the attention"):
        train(model, subject, [last], steps=1)


def solve(model: DiffusionBackend, asked: ErasureRequest, **options: Any) -> dict[str, Edit]:
    data = prepare(model, asked, seed=1, show_progress=False)
    found = MACE(MACE.Options(**options), asked).solve(model, data, model.text_facing())
    return {edit.name: edit for edit in found}


def test_without_training_it_is_the_refinement(model: DiffusionBackend, asked: ErasureRequest) -> None:
    edits = solve(model, asked, steps=0)
    method = MACE(MACE.Options(), asked)
    sums = method.sums(model, prepare(model, asked, seed=1, show_progress=False), 32)
    refined = refinement(sums, regularisation=1e3, retain_weight=0.0)
    for name, edit in edits.items():
        torch.testing.assert_close(edit.delta, model.tensors()[name].double() @ refined)


def test_the_whole_method_takes_attention_off_every_concept(
    model: DiffusionBackend, asked: ErasureRequest, data: DiffusionData
) -> None:
    subjects = MACE(MACE.Options(), asked).subjects(model, data)
    plain = [attention(model, subject) for subject in subjects]
    before = model.fingerprint()
    edits = solve(model, asked, steps=25, batch=2, learning_rate=0.05, regularisation=1e-3, mask_share=0)
    assert model.fingerprint() == before
    held = {name: parameter.data for name, parameter in model.tensors().items() if name in edits}
    for name, edit in edits.items():
        model.tensors()[name].data = (held[name].double() + edit.delta).float()
    after = [attention(model, subject) for subject in subjects]
    for name, value in held.items():
        model.tensors()[name].data = value
    assert all(late < 0.8 * early for late, early in zip(after, plain, strict=True))


def test_pairs_that_do_not_differ_are_refused(model: DiffusionBackend) -> None:
    asked = tiny_erasure.request(Concept("car", "object"), pairs=(PromptPair("a dog", "a dog"),))
    with pytest.raises(UserError, match="no target prompt of 'car' differs from its anchor prompt"):
        solve(model, asked)
