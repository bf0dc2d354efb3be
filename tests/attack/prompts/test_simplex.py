"""The simplex: projection against closed forms and brute force, and the gradient past the corner."""

from __future__ import annotations

from itertools import combinations

import pytest
import torch
from torch import Tensor

from oubliette.attack.prompts.simplex import corner, project_to_simplex


def brute_force(point: Tensor) -> Tensor:
    """The nearest of all points that are nearest on some face: a face fixes which entries may be positive."""
    best, least = point, float("inf")
    for size in range(1, len(point) + 1):
        for face in combinations(range(len(point)), size):
            # On a face, the nearest point is the one shifted along the diagonal until it sums to 1.
            chosen = torch.zeros_like(point)
            chosen[list(face)] = point[list(face)] - (point[list(face)].sum() - 1) / size
            distance = float((chosen - point).square().sum())
            if (chosen >= -1e-12).all() and distance < least:
                best, least = chosen, distance
    return best


@pytest.mark.parametrize("seed", range(12))
def test_projection_is_the_nearest_point(seed: int) -> None:
    rng = torch.Generator().manual_seed(seed)
    point = torch.randn(6, generator=rng, dtype=torch.float64) * (0.2 + seed / 4)
    torch.testing.assert_close(project_to_simplex(point), brute_force(point))


def test_projection_of_two_entries_in_closed_form() -> None:
    points = torch.tensor([[0.3, 0.1], [5.0, 0.0], [-3.0, -3.0], [0.25, 0.75]])
    share = ((points[:, 0] - points[:, 1] + 1) / 2).clamp(0, 1)
    torch.testing.assert_close(project_to_simplex(points), torch.stack([share, 1 - share], dim=1))


def test_projection_is_on_the_simplex_whatever_the_shape() -> None:
    points = torch.randn((2, 3, 5000), generator=torch.Generator().manual_seed(1)) * 10
    weights = project_to_simplex(points)
    assert weights.shape == points.shape
    assert weights.dtype == torch.float32
    assert float(weights.min()) >= 0
    torch.testing.assert_close(weights.sum(dim=-1), torch.ones(2, 3))
    torch.testing.assert_close(project_to_simplex(weights), weights)


def test_no_other_point_of_the_simplex_is_nearer() -> None:
    rng = torch.Generator().manual_seed(3)
    point = torch.randn(40, generator=rng, dtype=torch.float64)
    nearest = float((project_to_simplex(point) - point).square().sum())
    for _ in range(200):
        other = torch.distributions.Dirichlet(torch.full((40,), 0.2, dtype=torch.float64)).sample()
        assert float((other - point).square().sum()) >= nearest


def test_the_corner_is_one_hot_and_its_gradient_is_passed_straight_through() -> None:
    weights = torch.tensor([[0.2, 0.5, 0.3], [0.4, 0.4, 0.2]], requires_grad=True)
    hot = corner(weights)
    assert hot.tolist() == [[0.0, 1.0, 0.0], [1.0, 0.0, 0.0]]
    upstream = torch.tensor([[1.0, -2.0, 3.0], [0.5, 7.0, -1.0]])
    (gradient,) = torch.autograd.grad((hot * upstream).sum(), weights)
    assert torch.equal(gradient, upstream)


def test_a_sampled_corner_follows_the_weights() -> None:
    rng = torch.Generator().manual_seed(0)
    weights = torch.tensor([0.0, 0.25, 0.75]).expand(4000, 3)
    shares = corner(weights, rng).mean(dim=0)
    assert shares[0] == 0
    # Five standard deviations of a share of 4000.
    assert abs(float(shares[2]) - 0.75) < 5 * (0.75 * 0.25 / 4000) ** 0.5
