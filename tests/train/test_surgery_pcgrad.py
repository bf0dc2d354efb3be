"""The symmetric projection against algorithm 1 of its paper, on flat vectors."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from oubliette.train.roles import Role
from oubliette.train.surgery import PCGrad

SHAPES = [(3, 4), (5,), (2, 2, 2), ()]
NAMES = ["forget", "prior", "further", "keep"]


def gradients(seed: int, count: int) -> dict[str, list[torch.Tensor]]:
    """Gradients of which about half the pairs conflict."""
    rng = torch.Generator().manual_seed(seed)
    return {name: [torch.randn(shape, generator=rng) for shape in SHAPES] for name in NAMES[:count]}


def roles_of(weights: list[float]) -> dict[str, Role]:
    kinds = ("forget", "retain", "forget", "retain")
    return {
        name: Role(kind, weight=weight) for name, kind, weight in zip(NAMES, kinds, weights, strict=False)
    }


def flat(tensors: list[torch.Tensor]) -> torch.Tensor:
    return torch.cat([tensor.reshape(-1) for tensor in tensors]).double()


def copies(grads: dict[str, list[torch.Tensor]]) -> dict[str, list[torch.Tensor]]:
    return {name: [part.clone() for part in gradient] for name, gradient in grads.items()}


def by_hand(vectors: list[torch.Tensor], weights: list[float], orders: list[list[int]]) -> torch.Tensor:
    """The algorithm as its paper states it."""
    total = torch.zeros_like(vectors[0])
    for role, order in enumerate(orders):
        turned = vectors[role].clone()
        for other in order:
            inner = turned @ vectors[other]
            if inner < 0:
                turned -= inner / (vectors[other] @ vectors[other]) * vectors[other]
        total += weights[role] * turned
    return total


@settings(deadline=None, max_examples=40)
@given(
    seed=st.integers(0, 10_000),
    step=st.integers(0, 5),
    weights=st.lists(st.sampled_from([0.0, 0.3, 1.0, 2.5]), min_size=2, max_size=4),
)
def test_it_is_the_papers_algorithm(seed, step, weights):
    grads = gradients(seed, len(weights))
    surgery = PCGrad()
    surgery.begin(step, 10, seed)
    orders = surgery.orders(len(weights))
    found = surgery.combine(copies(grads), roles_of(weights))
    assert [part.shape for part in found] == [torch.Size(shape) for shape in SHAPES]
    expected = by_hand([flat(gradient) for gradient in grads.values()], weights, orders)
    torch.testing.assert_close(flat(found), expected, atol=1e-4, rtol=1e-4)


def test_per_tensor_is_the_algorithm_on_each_tensor():
    grads, weights = gradients(3, 3), [1.0, 0.5, 2.0]
    surgery = PCGrad(per="tensor")
    found = surgery.combine(copies(grads), roles_of(weights))
    for index, part in enumerate(found):
        vectors = [gradient[index].reshape(-1).double() for gradient in grads.values()]
        expected = by_hand(vectors, weights, surgery.orders(3))
        torch.testing.assert_close(part.reshape(-1).double(), expected, atol=1e-5, rtol=1e-5)


def test_with_two_roles_neither_is_turned_against_the_other():
    """Each is turned into the plane across the other, so the sum opposes neither."""
    for seed in range(6):
        grads = gradients(seed, 2)
        vectors = [flat(gradient) for gradient in grads.values()]
        found = flat(PCGrad().combine(copies(grads), roles_of([1.0, 1.0])))
        assert all(found @ vector > -1e-5 for vector in vectors)


def test_without_conflict_it_is_the_sum_bit_for_bit():
    grads = gradients(5, 3)
    agreeing = {name: [part.abs() for part in gradient] for name, gradient in grads.items()}
    surgery = PCGrad()
    found = surgery.combine(copies(agreeing), roles_of([1.0, 0.5, 2.0]))
    for index, part in enumerate(found):
        a, b, c = (gradient[index] for gradient in agreeing.values())
        assert torch.equal(part, a.add(b, alpha=0.5).add(c, alpha=2.0))
    assert surgery.facts()["conflict"] == 0


def test_a_role_of_weight_0_turns_the_others_and_a_negative_weight_is_its_loss_reversed():
    forget, prior = torch.tensor([1.0, 1.0]), torch.tensor([-1.0, 0.0])
    grads = {"forget": [forget], "prior": [prior]}
    found = PCGrad().combine(copies(grads), roles_of([1.0, 0.0]))
    torch.testing.assert_close(found[0], torch.tensor([0.0, 1.0]))
    assert PCGrad().needs(Role("retain", weight=0.0))
    reversed_ = {"forget": [forget], "prior": [-prior]}
    torch.testing.assert_close(
        PCGrad().combine(copies(reversed_), roles_of([1.0, -2.0])),
        PCGrad().combine(copies(grads), roles_of([1.0, 2.0])),
    )


def test_the_order_depends_on_seed_and_step_alone_and_leaves_out_the_role_itself():
    def orders(step, seed):
        surgery = PCGrad()
        surgery.begin(step, 10, seed)
        torch.rand(step + 1)  # the global generator has no part in it
        return surgery.orders(4)

    assert orders(3, 1) == orders(3, 1)
    assert len({str(orders(step, 1)) for step in range(20)}) > 10
    assert len({str(orders(1, seed)) for seed in range(20)}) > 10
    for role, order in enumerate(orders(2, 2)):
        assert sorted([*order, role]) == [0, 1, 2, 3]


@pytest.mark.parametrize("per", ["all", "tensor"])
def test_a_zero_gradient_divides_nothing_and_one_role_is_itself(per):
    grads = gradients(1, 2)
    zeros = {"forget": grads["forget"], "prior": [torch.zeros_like(part) for part in grads["prior"]]}
    found = PCGrad(per=per).combine(copies(zeros), roles_of([1.0, 1.0]))
    assert all(torch.equal(a, b) for a, b in zip(found, grads["forget"], strict=True))
    surgery = PCGrad(per=per)
    found = surgery.combine(copies({"forget": grads["forget"]}), roles_of([2.0]))
    assert all(torch.equal(a, 2 * b) for a, b in zip(found, grads["forget"], strict=True))
    assert surgery.facts() == {}


def test_facts_are_over_pairs_and_tensors():
    grads = {
        "forget": [torch.tensor([1.0, 0.0])],
        "prior": [torch.tensor([-1.0, 0.0])],
        "further": [torch.tensor([0.0, 1.0])],
    }
    surgery = PCGrad()
    surgery.combine(grads, roles_of([1.0, 1.0, 1.0]))
    assert surgery.facts() == {"conflict": pytest.approx(1 / 3), "cosine": pytest.approx(-1 / 3)}
