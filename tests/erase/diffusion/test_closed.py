"""What the closed forms share, against brute force."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import tiny_erasure
from oubliette.core.errors import UserError
from oubliette.data.concept import Concept
from oubliette.erase.diffusion.closed import (
    MappingOptions,
    RightFactor,
    edited,
    mapped_prompts,
    right_factor,
    token_rows,
)

A, B, LAM = 1.3, 0.7, 0.4


def problem(seed: int, width: int = 9, erased: int = 3, kept: int = 2) -> tuple[torch.Tensor, ...]:
    rng = torch.Generator().manual_seed(seed)
    return tuple(
        torch.randn(rows, width, generator=rng, dtype=torch.float64) for rows in (5, erased, erased, kept)
    )


def cost(
    new: torch.Tensor, w: torch.Tensor, c: torch.Tensor, goal: torch.Tensor, p: torch.Tensor
) -> torch.Tensor:
    return (
        A * (new @ c.T - w @ goal.T).square().sum()
        + B * (new @ p.T - w @ p.T).square().sum()
        + LAM * (new - w).square().sum()
    )


def solved(w: torch.Tensor, c: torch.Tensor, goal: torch.Tensor, p: torch.Tensor) -> torch.Tensor:
    factor = right_factor(c, goal, p, erase_weight=A, retain_weight=B, regularisation=LAM)
    return w + factor.edit("w", w).delta


@given(seed=st.integers(0, 10_000), erased=st.integers(1, 12), kept=st.integers(0, 12))
@settings(max_examples=25, deadline=None)
def test_equals_the_normal_equations(seed: int, erased: int, kept: int) -> None:
    w, c, goal, p = problem(seed, erased=erased, kept=kept)
    left = LAM * w + A * w @ goal.T @ c + B * w @ p.T @ p
    right = LAM * torch.eye(9, dtype=torch.float64) + A * c.T @ c + B * p.T @ p
    torch.testing.assert_close(solved(w, c, goal, p), left @ torch.linalg.inv(right), rtol=1e-8, atol=1e-8)


def test_gradient_descent_ends_there_and_nothing_near_it_is_better() -> None:
    w, c, goal, p = problem(0)
    best = solved(w, c, goal, p)
    new = w.clone().requires_grad_()
    optimizer = torch.optim.LBFGS([new], max_iter=500, tolerance_grad=1e-12, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        value = cost(new, w, c, goal, p)
        value.backward()
        return value

    optimizer.step(closure)
    torch.testing.assert_close(new.detach(), best, rtol=1e-6, atol=1e-6)
    rng = torch.Generator().manual_seed(1)
    for scale in (1e-3, 1e-1, 1.0):
        for _ in range(20):
            other = best + scale * torch.randn(best.shape, generator=rng, dtype=best.dtype)
            assert cost(other, w, c, goal, p) > cost(best, w, c, goal, p)


def test_nothing_moves_when_target_is_anchor() -> None:
    w, c, _, p = problem(2)
    factor = right_factor(c, c, p)
    assert factor.left.shape[1] == 0
    assert torch.equal(w + factor.edit("w", w).delta, w)


def test_retained_embeddings_are_reproduced_as_lambda_vanishes() -> None:
    w, c, goal, p = problem(3)
    errors = []
    for lam in (1.0, 1e-3, 1e-6, 1e-9):
        new = w + w @ right_factor(c, goal, p, regularisation=lam).dense
        errors.append(float((new @ p.T - w @ p.T).norm()))
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 1e-6
    assert float((new @ c.T - w @ goal.T).norm()) < 1e-6


def test_order_of_concepts_is_of_no_account() -> None:
    w, c, goal, p = problem(4, erased=6)
    order = torch.tensor([4, 0, 5, 2, 1, 3])
    torch.testing.assert_close(
        solved(w, c, goal, p), solved(w, c[order], goal[order], p), rtol=1e-12, atol=1e-12
    )


def test_a_singular_system_is_said_to_be_one() -> None:
    zero = torch.zeros(1, 3).double()
    with pytest.raises(UserError, match=r"UCE: the system is singular; raise method\.regularisation"):
        right_factor(zero, zero + 1, zero[:0], regularisation=0.0)


def test_an_edit_of_low_rank_carries_its_factors_and_any_other_none() -> None:
    w, c, goal, p = problem(5, erased=3)
    low = right_factor(c, goal, p).edit("w", w)
    assert low.factors is not None
    assert low.factors[0].shape == (5, 3)
    assert low.factors[1].shape == (3, 9)
    w, c, goal, p = problem(5, erased=7)  # more rows than the weight's shorter side
    factor = right_factor(c, goal, p)
    full = factor.edit("w", w)
    assert full.factors is None
    torch.testing.assert_close(full.delta, w @ factor.left @ factor.right)


def test_a_row_that_is_its_own_goal_weighs_but_adds_no_rank() -> None:
    _, c, goal, p = problem(6, erased=4)
    goal[1] = c[1]
    factor = right_factor(c, goal, p)
    assert factor.left.shape[1] == 3
    same = right_factor(c[[0, 2, 3]], goal[[0, 2, 3]], torch.cat([p, c[1:2]]))
    torch.testing.assert_close(factor.dense, same.dense)


@pytest.mark.parametrize("ranks", [(2, 3), (5, 6)])
def test_one_edit_after_another_is_the_product_of_both(ranks: tuple[int, int]) -> None:
    rng = torch.Generator().manual_seed(7)
    first, second = (
        RightFactor(
            torch.randn(9, k, generator=rng, dtype=torch.float64),
            torch.randn(k, 9, generator=rng, dtype=torch.float64),
        )
        for k in ranks
    )
    one = torch.eye(9, dtype=torch.float64)
    both = first.then(second)
    assert both.left.shape[1] == min(9, sum(ranks))
    torch.testing.assert_close(one + both.dense, (one + first.dense) @ (one + second.dense))


def text(hidden: torch.Tensor, last: list[int]) -> SimpleNamespace:
    return SimpleNamespace(hidden=hidden, last_token=torch.tensor(last))


def test_token_modes_pick_the_rows_they_name() -> None:
    source = torch.arange(20.0).reshape(2, 10, 1)
    anchor = 100 + source
    pair = text(source, [3, 2]), text(anchor, [1, 4])
    rows, goals = token_rows(*pair, "last")
    assert rows.flatten().tolist() == [3, 12]
    assert goals.flatten().tolist() == [101, 114]
    rows, goals = token_rows(*pair, "last_to_end")
    assert rows.flatten().tolist() == [*range(3, 10), *range(12, 18)]
    assert goals.flatten().tolist() == [*range(101, 108), *range(114, 120)]
    rows, goals = token_rows(*pair, "all")
    assert rows.flatten().tolist() == list(range(20))
    assert goals.flatten().tolist() == list(range(100, 120))
    assert rows.dtype == torch.float64


def test_prompts_are_names_expansions_or_the_banks() -> None:
    concept = Concept("van gogh", "painting", "style", ("vincent",))
    asked = tiny_erasure.request(concept)
    data = SimpleNamespace(pairs=[SimpleNamespace(target="a", anchor="b")])

    def prompts(**options: object) -> list[tuple[str, str]]:
        return mapped_prompts(MappingOptions(**options), asked, data)

    assert prompts(synonyms=False) == [("van gogh", "painting")]
    assert prompts() == [("van gogh", "painting"), ("vincent", "painting")]
    assert ("art by vincent", "art by painting") in prompts(prompts="expanded")
    assert len(prompts(prompts="expanded")) == 12
    assert prompts(prompts="bank")[0] == ("a", "b")


def test_the_scope_says_what_is_edited() -> None:
    model = tiny_erasure.backend()
    facing = model.text_facing()
    found = dict(edited(model, [*facing[:3], "unet.conv_in.weight"], 32, "UCE"))
    assert list(found) == facing[:3]
    assert all(weight.dtype == torch.float64 for weight in found.values())
    with pytest.raises(UserError, match="UCE edits the projections that read the text, and the scope holds"):
        list(edited(model, ["unet.conv_in.weight"], 32, "UCE"))
    with pytest.raises(UserError, match="reads vectors of width 32, the text encoder gives 48"):
        list(edited(model, facing, 48, "UCE"))
