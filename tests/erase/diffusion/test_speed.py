"""SPEED against its published formula, brute force, and what it promises of retained and fixed rows."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import tiny_erasure
from oubliette.backends.diffusion import DiffusionBackend
from oubliette.core.errors import UserError
from oubliette.erase.diffusion.closed import RightFactor, right_factor
from oubliette.erase.diffusion.speed import (
    SPEED,
    centres,
    constrained_factor,
    influenced,
    least_direction,
    null_basis,
    retained_covariance,
)
from oubliette.erase.edit import Edit
from oubliette.erase.prepare import prepare

RHO = 0.3


def normal(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


class Problem:
    """Width 10: four retained rows, so that six directions are free; three erased rows, two fixed."""

    weight = normal(5, 10, seed=0)
    rows, goals = normal(3, 10, seed=1), normal(3, 10, seed=2)
    kept, fixed = normal(4, 10, seed=3), normal(2, 10, seed=4)
    basis = null_basis(kept.T @ kept / 4, 1e-6)

    def solved(self, slack: float = 0.0, rho: float = RHO) -> RightFactor:
        return constrained_factor(
            self.rows, self.goals, self.basis, self.fixed, regularisation=rho, slack=slack
        )

    def cost(self, x: torch.Tensor) -> torch.Tensor:
        apart = (self.weight + x) @ self.rows.T - self.weight @ self.goals.T
        return apart.square().sum() + RHO * x.square().sum()


def test_the_free_directions_are_those_the_retained_rows_leave() -> None:
    basis = Problem.basis
    assert basis.shape == (10, 6)
    torch.testing.assert_close(basis.T @ basis, torch.eye(6).double())
    assert float((Problem.kept @ basis).abs().max()) < 1e-12


@pytest.mark.parametrize("slack", [0.0, 0.7])
def test_it_is_the_published_formula(slack: float) -> None:
    case = Problem()
    projector, key = case.basis @ case.basis.T, case.fixed.T
    own, cross = case.rows.T @ case.rows, case.goals.T @ case.rows
    m = torch.linalg.inv(own @ projector + RHO * torch.eye(10).double())
    inner = torch.linalg.inv(key.T @ projector @ m @ key + slack * torch.eye(2).double())
    middle = torch.eye(10).double() - m @ key @ inner @ key.T @ projector
    expected = case.weight @ (cross - own) @ projector @ middle @ m
    torch.testing.assert_close(case.weight @ case.solved(slack).dense, expected)


def test_it_is_the_constrained_least_squares_solution() -> None:
    """The feasible edits are Z N^T with N an orthonormal basis of what is neither retained nor fixed."""
    case = Problem()
    _, _, rest = torch.linalg.svd(torch.cat([case.kept, case.fixed]))
    free = rest[6:].T
    z = torch.zeros(5, 4, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([z], max_iter=500, tolerance_grad=1e-13, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        value = case.cost(z @ free.T)
        value.backward()
        return value

    optimizer.step(closure)
    found = case.weight @ case.solved().dense
    torch.testing.assert_close(found, z.detach() @ free.T, rtol=1e-4, atol=1e-5)
    for scale in (1e-3, 0.1):
        for seed in range(10):
            assert case.cost(found + scale * normal(5, 4, seed=seed) @ free.T) > case.cost(found)


def test_fixed_and_retained_rows_keep_their_output() -> None:
    case = Problem()
    moved = case.weight @ case.solved().dense
    assert float((moved @ case.fixed.T).abs().max()) < 1e-12
    assert float((moved @ case.kept.T).abs().max()) < 1e-12
    assert float((moved @ case.rows.T).abs().max()) > 1e-2


def test_erased_rows_reach_the_anchor_where_nothing_stands_against_it() -> None:
    case = Problem()
    moved = case.weight @ case.solved(rho=1e-12).dense
    wanted = case.weight @ (case.goals - case.rows).T
    torch.testing.assert_close(moved @ case.rows.T, wanted, rtol=1e-5, atol=1e-6)


def test_a_constraint_that_the_null_space_satisfies_already_changes_nothing() -> None:
    case = Problem()
    plain = constrained_factor(
        case.rows, case.goals, case.basis, case.fixed[:0], regularisation=RHO, slack=0.0
    )
    within = torch.stack([case.kept[0], case.kept[1] - case.kept[2], case.kept[0]])
    same = constrained_factor(case.rows, case.goals, case.basis, within, regularisation=RHO, slack=0.0)
    torch.testing.assert_close(plain.dense, same.dense)


def test_with_nothing_retained_or_fixed_it_is_uce() -> None:
    case = Problem()
    everything = torch.eye(10).double()
    found = constrained_factor(
        case.rows, case.goals, everything, case.fixed[:0], regularisation=RHO, slack=0.0
    )
    torch.testing.assert_close(
        found.dense, right_factor(case.rows, case.goals, case.kept[:0], regularisation=RHO).dense
    )


@pytest.mark.parametrize("out", [5, 10, 14])
def test_the_least_direction_is_the_last_singular_vector(out: int) -> None:
    weight = normal(out, 10, seed=out)
    _, sizes, vectors = torch.linalg.svd(weight, full_matrices=False)
    found = least_direction(weight)
    assert float((found @ vectors[-1]).abs()) == pytest.approx(1)
    assert float((weight @ found).norm()) == pytest.approx(float(sizes[-1]))
    assert float(found[found.abs().argmax()]) > 0


def test_influence_keeps_what_shifts_more_than_the_mean() -> None:
    assert influenced(torch.tensor([1.0, 5.0, 2.0, 4.0])).tolist() == [False, True, False, True]
    assert influenced(torch.full((7,), 0.1).double()).all()  # never none, whatever the rounding


def covariance(kept: torch.Tensor, *, filtered: bool, copies: int) -> torch.Tensor:
    case = Problem()
    erasure = right_factor(case.rows, case.goals, kept[:0], regularisation=1.0)
    rng = torch.Generator().manual_seed(8)
    return retained_covariance(
        case.weight, kept, erasure, filtered=filtered, copies=copies, noise=1.5, rng=rng
    )


@pytest.mark.parametrize("filtered", [False, True])
@pytest.mark.parametrize("copies", [0, 4])
def test_the_covariance_is_that_of_the_rows_written_out(filtered: bool, copies: int) -> None:
    case, kept = Problem(), normal(12, 10, seed=5)
    erasure = case.weight @ right_factor(case.rows, case.goals, kept[:0], regularisation=1.0).dense

    def chosen(rows: torch.Tensor) -> torch.Tensor:
        shift = (rows @ erasure.T).square().sum(1)
        return rows[shift >= shift.mean()] if filtered else rows

    own = chosen(kept)
    assert len(own) < 12 or not filtered
    rows = own
    if copies:
        scale = 1.5 * torch.randn(
            len(own), copies, generator=torch.Generator().manual_seed(8), dtype=torch.float64
        )
        noisy = own[:, None] + scale[:, :, None] * least_direction(case.weight)
        rows = torch.cat([own, chosen(noisy.flatten(0, 1))])
    torch.testing.assert_close(covariance(kept, filtered=filtered, copies=copies), rows.T @ rows / len(rows))


def test_centres_are_the_means_of_their_clusters() -> None:
    groups = [10 * index + 0.1 * normal(6, 3, seed=index) for index in range(3)]
    found = centres(torch.cat(groups), 3)
    expected = torch.stack([group.mean(0) for group in groups])
    order = found[:, 0].argsort()
    torch.testing.assert_close(found[order], expected)


def test_centres_are_no_more_than_the_points_that_differ() -> None:
    point = normal(1, 3, seed=0)
    assert centres(point.repeat(5, 1), 3).shape == (1, 3)
    assert centres(torch.cat([point, -point, point]), 3).shape == (2, 3)


@pytest.fixture(scope="module")
def model() -> DiffusionBackend:
    return tiny_erasure.backend()


def solve(model: DiffusionBackend, scope: list[str], seed: int = 1, **options: Any) -> list[Edit]:
    asked = tiny_erasure.request(retain=("a dog", "a cat", "a ship", "a house"))
    data = prepare(model, asked, seed=seed, show_progress=False)
    return list(SPEED(SPEED.Options(**options), asked).solve(model, data, scope))


def test_on_a_model_it_keeps_the_start_token_and_moves_the_concept(model: DiffusionBackend) -> None:
    values = [name for name in model.text_facing() if "to_v" in name]
    edits = solve(model, values, regularisation=1e-6)
    assert [edit.name for edit in edits] == values
    source, anchor = model.encode_text(["car"]), model.encode_text(["object"])
    start, row, goal = (
        source.hidden[0, 0].double(),
        source.hidden[0, 1].double(),
        anchor.hidden[0, 1].double(),
    )
    for edit in edits:
        weight = model.tensors()[edit.name].double()
        assert edit.factors is not None
        assert edit.factors[0].shape[1] == 1
        assert float((edit.delta @ start).abs().max()) < 1e-10
        before = (weight @ (row - goal)).norm()
        assert float(((weight + edit.delta) @ row - weight @ goal).norm()) < 0.9 * float(before)


def test_a_layers_edit_does_not_hang_on_the_other_layers(model: DiffusionBackend) -> None:
    names = model.text_facing()
    whole, alone = solve(model, names), solve(model, names[-1:])
    assert torch.equal(whole[-1].delta, alone[0].delta)
    other = solve(model, names[-1:], seed=2)
    assert not torch.equal(other[0].delta, alone[0].delta)


def test_no_room_at_all_is_said_so(model: DiffusionBackend) -> None:
    with pytest.raises(UserError, match=r"leave no direction of 'unet.* raise method.threshold above"):
        solve(model, model.text_facing(), token_mode="all", threshold=1e-12)
