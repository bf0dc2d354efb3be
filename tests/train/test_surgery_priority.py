"""Forgetting first, against its equation and against `project`, whose mirror image it is."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from oubliette.core.errors import UserError
from oubliette.train.roles import Role
from oubliette.train.surgery import Priority, Project

from .test_surgery import SHAPES, flat, gradients


def test_as_published_the_whole_component_goes_whatever_its_sign():
    """g = f + a (r - <f, r> / ||f||^2 f), inner products over all tensors (2506.08164)."""
    for tie in (-2.0, 0.0, 2.0):
        forget, retain = gradients(8, tie)
        grads = {"forget": [g.clone() for g in forget], "prior": [g.clone() for g in retain]}
        found = flat(
            Priority().combine(grads, {"forget": Role("forget"), "prior": Role("retain", weight=3.0)})
        )
        f, r = flat(forget), flat(retain)
        torch.testing.assert_close(found, f + 3 * (r - (f @ r) / (f @ f) * f), atol=1e-4, rtol=1e-4)
        assert float(found @ f) == pytest.approx(float(f @ f), rel=1e-4)  # to first order, f's own step


@settings(deadline=None, max_examples=40)
@given(
    seed=st.integers(0, 10_000),
    tie=st.floats(-3, 3),
    strength=st.floats(0, 2),
    weights=st.tuples(*[st.sampled_from([0.5, 1.0, 3.0])] * 3),
    per=st.sampled_from(["tensor", "all"]),
)
def test_priority_and_project_are_mirror_images(seed, tie, strength, weights, per):
    """Swap the roles' kinds, and the one is the other, bit for bit."""
    first, second = gradients(seed, tie)
    third, _ = gradients(seed + 1)
    other = {"forget": "retain", "retain": "forget"}
    kinds = {"a": "forget", "b": "retain", "c": "retain"}
    roles = {name: Role(kind, weight=w) for (name, kind), w in zip(kinds.items(), weights, strict=True)}
    swapped = {name: Role(other[role.kind], weight=role.weight) for name, role in roles.items()}

    def combined(surgery, roles):
        grads = {"a": first, "b": second, "c": third}
        copies = {name: [part.clone() for part in gradient] for name, gradient in grads.items()}
        return surgery.combine(copies, roles), surgery.facts()

    found, facts = combined(Priority(strength, per=per, always=False), swapped)
    expected, same_facts = combined(Project(strength, per=per), roles)
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
    assert facts == same_facts


def test_where_the_sides_agree_always_false_is_the_sum():
    forget, retain = gradients(1, 4.0)
    grads = {"forget": [g.clone() for g in forget], "prior": [g.clone() for g in retain]}
    roles = {"forget": Role("forget"), "prior": Role("retain")}
    surgery = Priority(always=False)
    found = surgery.combine(grads, roles)
    assert surgery.facts()["conflict"] == 0
    assert all(torch.equal(a, r + f) for a, f, r in zip(found, forget, retain, strict=True))


def test_it_needs_no_retain_gradient_of_weight_0_and_divides_by_no_zero():
    assert not Priority().needs(Role("retain", weight=0.0))
    assert Priority().needs(Role("forget", weight=0.0))
    _, retain = gradients(2)
    zeros = [torch.zeros(shape) for shape in SHAPES]
    roles = {"forget": Role("forget"), "prior": Role("retain")}
    found = Priority().combine({"forget": zeros, "prior": [g.clone() for g in retain]}, roles)
    assert all(torch.equal(a, b) for a, b in zip(found, retain, strict=True))
    with pytest.raises(UserError, match="strength"):
        Priority(strength=-0.5)
