import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from oubliette.core.errors import UserError
from oubliette.train.roles import Role
from oubliette.train.surgery import DocoRef, Project, Sum, products

SHAPES = [(3, 4), (5,), (2, 2, 2), ()]


def gradients(seed: int, tie: float = 0.0) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """Forget and retain gradients; a negative `tie` makes them conflict."""
    rng = torch.Generator().manual_seed(seed)
    retain = [torch.randn(shape, generator=rng) for shape in SHAPES]
    forget = [torch.randn(shape, generator=rng) + tie * r for shape, r in zip(SHAPES, retain, strict=True)]
    return forget, retain


def roles(retain_weight: float = 0.0) -> dict[str, Role]:
    return {"forget": Role("forget"), "retain": Role("retain", weight=retain_weight)}


def combined(surgery, forget, retain, retain_weight=0.0):
    """The surgery's result on copies, because it may overwrite what it is given."""
    grads = {"forget": [g.clone() for g in forget], "retain": [g.clone() for g in retain]}
    return surgery.combine(grads, roles(retain_weight))


def flat(tensors):
    return torch.cat([tensor.reshape(-1) for tensor in tensors]).double()


def projected(f: torch.Tensor, r: torch.Tensor, strength: float) -> torch.Tensor:
    """The definition, on one flattened vector in fp64."""
    f, r = f.double(), r.double()
    inner = (f * r).sum()
    return f - strength * inner / (r * r).sum() * r if inner < 0 else f


@settings(deadline=None, max_examples=40)
@given(
    seed=st.integers(0, 10_000),
    tie=st.floats(-3, 3),
    strength=st.floats(0, 2),
    weight=st.floats(0, 3),
)
def test_project_per_tensor_is_its_definition(seed, tie, strength, weight):
    forget, retain = gradients(seed, tie)
    found = combined(Project(strength=strength), forget, retain, weight)
    for f, r, got in zip(forget, retain, found, strict=True):
        assert got.shape == f.shape
        expected = projected(f, r, strength) + weight * r.double()
        assert torch.allclose(got.double(), expected, atol=1e-4, rtol=1e-4)


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 10_000), tie=st.floats(-3, 3), strength=st.floats(0, 2), weight=st.floats(0, 3))
def test_project_over_all_is_its_definition_on_one_flat_vector(seed, tie, strength, weight):
    forget, retain = gradients(seed, tie)
    found = combined(Project(strength=strength, per="all"), forget, retain, weight)
    expected = projected(flat(forget), flat(retain), strength) + weight * flat(retain)
    assert torch.allclose(flat(found), expected, atol=1e-4, rtol=1e-4)


def test_project_leaves_no_component_against_the_retain_gradient():
    forget, retain = gradients(3, tie=-2.0)
    found = combined(Project(), forget, retain)
    for got, r in zip(found, retain, strict=True):
        assert abs(float((got * r).sum())) < 1e-5 * float(r.norm()) * max(1.0, float(got.norm()))


def test_without_conflict_the_forget_gradient_keeps_its_bits():
    forget, retain = gradients(1)
    agreeing = [f * torch.sign((f * r).sum()) for f, r in zip(forget, retain, strict=True)]
    for surgery in (Project(), Project(per="all"), DocoRef()):
        found = combined(surgery, agreeing, retain)
        assert all(torch.equal(a, b) for a, b in zip(agreeing, found, strict=True))
        assert surgery.facts()["conflict"] == 0


def test_chunked_inner_products_are_the_same(monkeypatch):
    forget, retain = gradients(5, tie=-1.0)
    whole = combined(Project(), forget, retain)
    monkeypatch.setattr(products, "_CHUNK", 6)
    parts = combined(Project(), forget, retain)
    assert all(torch.equal(a, b) for a, b in zip(whole, parts, strict=True))


def test_doco_ref_overcorrects_by_the_sheets_example():
    """cos -0.44, ||f|| 0.18: +0.361 along v is left over (printed to three digits from unrounded inputs)."""
    cosine, norm = -0.44, 0.18
    v = torch.tensor([1.0, 0.0])
    f = norm * torch.tensor([cosine, math.sqrt(1 - cosine**2)])
    (found,) = combined(DocoRef(), [f], [5.0 * v])
    assert float(found @ v) == pytest.approx(-cosine * (1 - norm), abs=1e-6)
    assert float(found @ v) == pytest.approx(0.361, abs=1e-3)
    (textbook,) = combined(Project(), [f], [5.0 * v])
    assert float(textbook @ v) == pytest.approx(0.0, abs=1e-7)


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 10_000), tie=st.floats(-3, 3), strength=st.floats(0, 2), weight=st.floats(0, 3))
def test_doco_ref_is_the_released_rule_and_never_adds_the_retain_gradient(seed, tie, strength, weight):
    forget, retain = gradients(seed, tie)
    found = combined(DocoRef(strength=strength), forget, retain, weight)
    for f, r, got in zip(forget, retain, found, strict=True):
        f, r = f.double(), r.double()
        v = r / r.norm()
        c = (f / f.norm() * v).sum()
        expected = f - strength * c * v if c < 0 else f
        assert torch.allclose(got.double(), expected, atol=1e-4, rtol=1e-4)


def test_facts_are_the_share_in_conflict_and_the_mean_cosine():
    retain = [torch.tensor([1.0, 0.0]), torch.tensor([1.0, 0.0])]
    forget = [torch.tensor([-1.0, 1.0]), torch.tensor([3.0, 0.0])]
    surgery = Project()
    combined(surgery, forget, retain)
    assert surgery.facts()["conflict"] == 0.5
    assert surgery.facts()["cosine"] == pytest.approx((1 - math.sqrt(0.5)) / 2)


def test_several_roles_a_side_act_as_their_weighted_sum():
    f1, r1 = gradients(11)
    f2, r2 = gradients(12)
    grads = {"a": f1, "b": f2, "c": r1, "d": r2}
    four = {
        "a": Role("forget", weight=2.0),
        "b": Role("forget", weight=0.5),
        "c": Role("retain", weight=3.0),
        "d": Role("retain", weight=1.0),
    }
    forget = [2.0 * x + 0.5 * y for x, y in zip(f1, f2, strict=True)]
    retain = [3.0 * x + y for x, y in zip(r1, r2, strict=True)]
    expected = [projected(f, r, 1.0) + r.double() for f, r in zip(forget, retain, strict=True)]
    found = Project().combine({k: [t.clone() for t in v] for k, v in grads.items()}, four)
    assert all(torch.allclose(a.double(), b, atol=1e-4) for a, b in zip(found, expected, strict=True))


@pytest.mark.parametrize("surgery", [Project(), DocoRef()])
def test_without_a_retain_side_every_surgery_is_the_sum(surgery):
    forget, _ = gradients(2)
    found = surgery.combine({"forget": [g.clone() for g in forget]}, {"forget": Role("forget", weight=2.0)})
    assert all(torch.equal(2.0 * a, b) for a, b in zip(forget, found, strict=True))
    found = surgery.combine({"retain": [g.clone() for g in forget]}, {"retain": Role("retain")})
    assert all(torch.equal(a, b) for a, b in zip(forget, found, strict=True))


def test_sum_is_the_weighted_sum_and_skips_weight_zero():
    forget, retain = gradients(4)
    found = combined(Sum(), forget, retain, 0.3)
    for f, r, got in zip(forget, retain, found, strict=True):
        assert torch.allclose(got, f + 0.3 * r)
    assert not Sum().needs(Role("retain", weight=0.0))
    assert Project().needs(Role("retain", weight=0.0))


def test_a_zero_retain_gradient_divides_nothing():
    forget, _ = gradients(6)
    zeros = [torch.zeros_like(f) for f in forget]
    for surgery in (Project(), Project(per="all"), DocoRef()):
        found = combined(surgery, forget, zeros, 1.0)
        assert all(torch.equal(a, b) for a, b in zip(forget, found, strict=True))
        assert surgery.facts() == {"conflict": 0.0, "cosine": 0.0}


def test_a_negative_strength_is_refused():
    with pytest.raises(UserError, match="strength"):
        Project(strength=-1.0)
