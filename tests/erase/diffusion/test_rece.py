"""RECE's adversary and its rounds against brute force on the layers themselves."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from pydantic import ValidationError

import tiny_erasure
from oubliette.backends.diffusion import DiffusionBackend
from oubliette.erase.diffusion.closed import RightFactor, right_factor
from oubliette.erase.diffusion.rece import RECE, adversarial_rows, gram
from oubliette.erase.diffusion.uce import UCE
from oubliette.erase.edit import Edit
from oubliette.erase.prepare import prepare

R = 0.05


@pytest.fixture(scope="module")
def model() -> DiffusionBackend:
    return tiny_erasure.backend()


def normal(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


class Layers:
    """Three layers under edit, one that is not, an edit so far, and two embeddings."""

    def __init__(self) -> None:
        self.moved = [normal(out, 7, seed=out) for out in (4, 6, 9)]
        self.still = [normal(5, 7, seed=20)]
        self.factor = RightFactor(normal(7, 2, seed=1), 0.3 * normal(2, 7, seed=2))
        self.rows = normal(2, 7, seed=3)

    def now(self) -> list[torch.Tensor]:
        return [weight + weight @ self.factor.dense for weight in self.moved] + self.still

    def cost(self, found: torch.Tensor) -> torch.Tensor:
        originals = self.moved + self.still
        apart = [
            (new @ found.T - old @ self.rows.T).square().sum()
            for new, old in zip(self.now(), originals, strict=True)
        ]
        return torch.stack(apart).sum() + R * found.square().sum()

    def adversary(self) -> torch.Tensor:
        moved, still = (
            gram([("", weight) for weight in part], 7, torch.device("cpu"))
            for part in (self.moved, self.still)
        )
        return adversarial_rows(self.rows, self.factor, moved, still, R)


def test_the_adversary_is_the_least_squares_solution() -> None:
    layers = Layers()
    stacked = torch.cat([*layers.now(), R**0.5 * torch.eye(7).double()])
    wanted = torch.cat(
        [*(w @ layers.rows.T for w in layers.moved + layers.still), torch.zeros(7, 2).double()]
    )
    torch.testing.assert_close(layers.adversary(), torch.linalg.lstsq(stacked, wanted).solution.T)


def test_the_adversarys_gradient_vanishes() -> None:
    layers = Layers()
    found = layers.adversary().requires_grad_()
    (gradient,) = torch.autograd.grad(layers.cost(found), found)
    assert float(gradient.abs().max()) < 1e-10


def test_an_unedited_model_is_attacked_by_the_embedding_itself() -> None:
    layers = Layers()
    layers.factor = RightFactor(torch.zeros(7, 0).double(), torch.zeros(0, 7).double())
    moved = gram([("", weight) for weight in layers.moved], 7, torch.device("cpu"))
    found = adversarial_rows(layers.rows, layers.factor, moved, torch.zeros_like(moved), 1e-12)
    torch.testing.assert_close(found, layers.rows)


def solve(
    method: type[UCE], model: DiffusionBackend, scope: list[str] | None = None, **options: Any
) -> dict[str, Edit]:
    asked = tiny_erasure.request()
    data = prepare(model, asked, seed=1, show_progress=False)
    found = method(method.Options(**options), asked).solve(model, data, scope or model.text_facing())
    return {edit.name: edit for edit in found}


def test_without_rounds_it_is_uce(model: DiffusionBackend) -> None:
    own = solve(RECE, model, epochs=0)
    shared = {"regularisation": 0.1, "token_mode": "last_to_end", "retain_empty": True}
    uce = solve(UCE, model, retain_scale="inverse", **shared)
    assert list(own) == list(uce)
    for name, edit in own.items():
        assert torch.equal(edit.delta, uce[name].delta)


def test_rounds_are_attack_and_repair_on_the_weights_as_they_stand(model: DiffusionBackend) -> None:
    """Two rounds done the plain way: each layer's own matrices, and UCE's normal equations."""
    scope = model.text_facing()[:-1]
    options = {"epochs": 2, "adversary_regularisation": 0.02, "epoch_retain_weight": 0.3}
    edits = solve(RECE, model, scope, epoch_regularisation=0.2, **options)
    tensors = {name: model.tensors()[name].detach().double() for name in model.text_facing()}
    start = solve(UCE, model, scope, regularisation=0.1, token_mode="last_to_end", retain_empty=True)
    now = {name: w + start[name].delta if name in start else w for name, w in tensors.items()}
    rows, anchors, kept = (model.encode_text([p]).hidden[0].double() for p in ("car", "object", ""))
    for _ in range(2):
        system = 0.02 * torch.eye(32).double() + sum(w.T @ w for w in now.values())
        found = torch.linalg.solve(system, sum(now[name].T @ w for name, w in tensors.items()) @ rows.T).T
        for name in scope:
            left = 0.2 * now[name] + now[name] @ anchors.T @ found + 0.3 * now[name] @ kept.T @ kept
            right = 0.2 * torch.eye(32).double() + found.T @ found + 0.3 * kept.T @ kept
            now[name] = left @ torch.linalg.inv(right)
    assert list(edits) == scope
    for name, edit in edits.items():
        torch.testing.assert_close(edit.delta, now[name] - tensors[name], rtol=1e-5, atol=1e-8)


def test_nothing_near_a_rounds_repair_is_better() -> None:
    layers = Layers()
    found, anchors, kept = layers.adversary(), normal(2, 7, seed=5), normal(3, 7, seed=6)
    repair = right_factor(found, anchors, kept, retain_weight=0.1, regularisation=0.1)
    rng = torch.Generator().manual_seed(0)
    for weight in layers.now():
        best = weight + repair.edit("w", weight).delta

        def cost(new: torch.Tensor, weight: torch.Tensor = weight) -> float:
            return float(
                (new @ found.T - weight @ anchors.T).square().sum()
                + 0.1 * (new @ kept.T - weight @ kept.T).square().sum()
                + 0.1 * (new - weight).square().sum()
            )

        for scale in (1e-3, 0.1):
            for _ in range(10):
                assert cost(best + scale * torch.randn(best.shape, generator=rng).double()) > cost(best)


def test_each_round_leaves_the_adversary_less(model: DiffusionBackend) -> None:
    """What the best embedding can bring back of the concept's output grows worse with each round."""
    row = model.encode_text(["car"]).hidden[0].double()
    tensors = {name: model.tensors()[name].detach().double() for name in model.text_facing()}
    reached = []
    for epochs in range(4):
        edits = solve(RECE, model, epochs=epochs)
        now = torch.cat([weight + edits[name].delta for name, weight in tensors.items()])
        old = torch.cat(list(tensors.values())) @ row.T
        system = now.T @ now + 1e-3 * torch.eye(32).double()
        reached.append(float((now @ torch.linalg.solve(system, now.T @ old) - old).norm()))
    assert reached == sorted(reached)
    assert reached[-1] > 1.2 * reached[0]


def test_holding_keeps_what_was_erased_before(model: DiffusionBackend) -> None:
    """With the rounds' retained weight small, only what is held still answers as the start left it."""
    row = model.encode_text(["car"]).hidden[0, 1:].double()
    shared = {"adversary_regularisation": 0.5, "epoch_regularisation": 1e-6}
    start, free, held = (
        solve(RECE, model, **options)
        for options in ({"epochs": 0}, {"epochs": 1, **shared}, {"epochs": 1, "hold": True, **shared})
    )
    for name, edit in start.items():
        drift = [float(((other[name].delta - edit.delta) @ row.T).norm()) for other in (free, held)]
        assert drift[1] < 0.2 * drift[0]


def test_the_tensor_technique_is_refused() -> None:
    with pytest.raises(ValidationError, match="technique"):
        RECE.Options(technique="tensor")
