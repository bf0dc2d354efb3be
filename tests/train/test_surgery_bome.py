"""BOME's multiplier against its formula, and what it guarantees."""

import pytest
import torch

from oubliette.core.errors import UserError
from oubliette.train import SURGERIES
from oubliette.train.roles import Role

from .test_surgery import flat, gradients


@pytest.mark.parametrize("eta", [0.5, 2.0])
@pytest.mark.parametrize("tie", [-2.0, 0.0, 0.3, 5.0])
def test_the_update_is_the_formula_and_keeps_the_pace(tie: float, eta: float) -> None:
    forget, retain = gradients(4, tie)
    grads = {"forget": [g.clone() for g in forget], "prior": [g.clone() for g in retain]}
    roles = {"forget": Role("forget", weight=0.1), "prior": Role("retain", weight=3.0)}
    found = flat(SURGERIES.build({"name": "bome", "eta": eta}).combine(grads, roles))
    f, r = flat(forget), 3 * flat(retain)
    multiplier = max(eta - float(r @ f / (f @ f)), 0.0)
    torch.testing.assert_close(found, r + multiplier * f, atol=1e-4, rtol=1e-4)
    assert float(found @ f) >= eta * float(f @ f) * (1 - 1e-3)


def test_on_a_toy_it_ends_at_the_constrained_optimum() -> None:
    """f = x^2 / 2 leaves y free, r = ((x - 1)^2 + (y - 1)^2) / 2 settles it: the least r where f is least."""
    point = torch.tensor([2.0, -1.0])
    surgery = SURGERIES.build("bome")
    for _ in range(400):
        x, y = point.tolist()
        grads = {"forget": [torch.tensor([x, 0.0])], "prior": [torch.tensor([x - 1, y - 1])]}
        roles = {"forget": Role("forget"), "prior": Role("retain")}
        point = point - 0.1 * surgery.combine(grads, roles)[0]
    torch.testing.assert_close(point, torch.tensor([0.0, 1.0]), atol=1e-3, rtol=0)


def test_eta_must_be_above_zero() -> None:
    with pytest.raises(UserError, match="eta must be above 0, found 0"):
        SURGERIES.build({"name": "bome", "eta": 0.0})
