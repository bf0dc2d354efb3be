"""UCE's options on a tiny model, against its closed form; the closed form's own tests are test_closed's."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import tiny_erasure
from oubliette.backends.diffusion import DiffusionBackend
from oubliette.data.concept import Concept
from oubliette.erase.diffusion.closed import right_factor, token_rows
from oubliette.erase.diffusion.uce import UCE, orthogonal_goals
from oubliette.erase.edit import Edit, apply_edits
from oubliette.erase.prepare import prepare
from tiny_erasure import CAR, VAN_GOGH


@pytest.fixture(scope="module")
def model() -> DiffusionBackend:
    return tiny_erasure.backend()


def solve(model: DiffusionBackend, *, retain: tuple[str, ...] = (), **options: Any) -> dict[str, Edit]:
    asked = tiny_erasure.request(retain=retain)
    data = prepare(model, asked, seed=1, show_progress=False)
    found = UCE(UCE.Options(**options), asked).solve(model, data, model.text_facing())
    return {edit.name: edit for edit in found}


def test_the_default_maps_the_last_token_of_the_bare_name(model: DiffusionBackend) -> None:
    edits = solve(model)
    assert list(edits) == model.text_facing()
    source, anchor = model.encode_text(["car"]), model.encode_text(["object"])
    rows, goals = source.hidden[:, 1].double(), anchor.hidden[:, 1].double()
    factor = right_factor(rows, goals, rows[:0])
    for name, edit in edits.items():
        assert edit.factors is not None
        assert edit.factors[0].shape[1] == 1
        torch.testing.assert_close(edit.delta, model.tensors()[name].double() @ factor.dense)


def test_the_2023_code_counts_retained_prompts(model: DiffusionBackend) -> None:
    retain = ("a dog", "a cat", "a ship")
    edits = solve(model, retain=retain, token_mode="last_to_end", retain_empty=True, retain_scale="inverse")
    source, anchor = model.encode_text(["car"]), model.encode_text(["object"])
    rows, goals = token_rows(source, anchor, "last_to_end")
    kept = model.encode_text([*retain, ""]).hidden.flatten(0, 1).double()
    factor = right_factor(rows, goals, kept, retain_weight=1 / 4)
    for name, edit in edits.items():
        torch.testing.assert_close(edit.delta, model.tensors()[name].double() @ factor.dense)


def test_retained_terms_never_weigh_less_than_a_tenth(model: DiffusionBackend) -> None:
    asked = tiny_erasure.request(retain=tuple(f"a {word}" for word in "abcdefghijklmnop"))
    method = UCE(UCE.Options(retain_scale="inverse", retain_weight=2.0), asked)
    assert method.retain_weight(prepare(model, asked, seed=1, show_progress=False)) == pytest.approx(0.2)


def test_the_tensor_technique_leaves_nothing_along_the_concepts_own_output() -> None:
    rng = torch.Generator().manual_seed(0)
    weight, rows, goals = (torch.randn(n, 6, generator=rng).double() for n in (4, 3, 3))
    own, wanted, found = (part @ weight.T for part in (rows, goals, orthogonal_goals(weight, rows, goals)))
    torch.testing.assert_close((own * found).sum(1), torch.zeros(3).double())
    for index in range(3):  # the rest is W c* itself: what was taken away lies along W c
        gone = wanted[index] - found[index]
        assert abs(float(torch.cosine_similarity(gone, own[index], dim=0))) == pytest.approx(1)
    zero = torch.zeros(1, 6).double()
    assert torch.equal(orthogonal_goals(weight, zero, goals[:1]), goals[:1])


def test_the_tensor_technique_gives_each_layer_its_own_goal(model: DiffusionBackend) -> None:
    edits = solve(model, technique="tensor", regularisation=1e-9)
    row = model.encode_text(["car"]).hidden[0, 1].double()
    goal = model.encode_text(["object"]).hidden[0, 1].double()
    for name, edit in edits.items():
        weight = model.tensors()[name].double()
        expected = weight @ goal
        own = weight @ row
        expected = expected - (expected @ own) / (own @ own) * own
        torch.testing.assert_close((weight + edit.delta) @ row, expected, rtol=1e-6, atol=1e-7)


def test_a_later_request_keeps_what_an_earlier_one_mapped() -> None:
    model = tiny_erasure.backend()
    name = model.text_facing()[0]
    weight = model.tensors()[name]
    text = model.encode_text(["car"])
    rows = text.hidden[0, text.last_token].double()
    original = rows @ weight.detach().double().T

    def erase(*concepts: Concept, **more: Any) -> None:
        request = tiny_erasure.request(*concepts, **more)
        data = prepare(model, request, seed=0, show_progress=False)
        solver = UCE(UCE.Options(regularisation=1e-3), request)
        apply_edits({name: weight}, solver.solve(model, data, [name]))

    erase(CAR)
    mapped = rows @ weight.detach().double().T
    held = weight.detach().clone()
    erase(VAN_GOGH, avoid=(CAR,))
    kept = (rows @ weight.detach().double().T - mapped).norm() / (original - mapped).norm()
    with torch.no_grad():
        weight.copy_(held)
    erase(VAN_GOGH)
    unguarded = (rows @ weight.detach().double().T - mapped).norm() / (original - mapped).norm()
    assert kept < 0.05
    assert unguarded > 3 * kept, (kept, unguarded)
