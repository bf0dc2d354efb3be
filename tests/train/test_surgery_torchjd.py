"""torchjd's aggregators through the surgery, against torchjd itself and closed forms."""

import importlib
import sys

import pytest
import torch

from oubliette.core.errors import UserError
from oubliette.recipe import build_recipe, validate
from oubliette.train.roles import Role
from oubliette.train.surgery import PCGrad, Sum, TorchJD

from .test_surgery import SHAPES, flat, gradients

pytest.importorskip("torchjd", reason="needs the extra 'surgery'")
pytest.importorskip("quadprog", reason="UPGrad's solver, of the extra 'surgery'")

RECIPE = {"method": "npo", "scope": "full", "train": {"steps": 3}}
ROLES = {"forget": Role("forget"), "prior": Role("retain", weight=3.0), "keep": Role("retain", weight=0.5)}


def three(seed: int = 0, tie: float = -1.5) -> dict[str, list[torch.Tensor]]:
    forget, retain = gradients(seed, tie)
    return {"forget": forget, "prior": retain, "keep": gradients(seed + 1)[0]}


def combined(surgery, grads, roles=ROLES):
    copies = {name: [part.clone() for part in gradient] for name, gradient in grads.items()}
    return surgery.combine(copies, {name: roles[name] for name in grads})


def matrix_of(grads, index=None):
    rows = [g if index is None else [g[index]] for g in grads.values()]
    weights = torch.tensor([ROLES[name].weight for name in grads])
    return torch.stack([flat(row) for row in rows]).float() * weights[:, None]


@pytest.mark.parametrize("name", ["UPGrad", "MGDA", "AlignedMTL", "DualProj", "IMTLG", "ConFIG", "Mean"])
def test_it_is_what_torchjd_makes_of_the_matrix_of_weighted_gradients(name):
    aggregators = importlib.import_module("torchjd.aggregation")
    grads = three()
    found = combined(TorchJD(name), grads)
    assert [part.shape for part in found] == [torch.Size(shape) for shape in SHAPES]
    expected = getattr(aggregators, name)()(matrix_of(grads))
    torch.testing.assert_close(flat(found).float(), expected, atol=1e-5, rtol=1e-5)
    for index, part in enumerate(combined(TorchJD(name, per="tensor"), grads)):
        expected = getattr(aggregators, name)()(matrix_of(grads, index))
        torch.testing.assert_close(part.reshape(-1), expected, atol=1e-5, rtol=1e-5)


def test_its_sum_and_pcgrad_are_this_packages_own():
    grads = three()
    torch.testing.assert_close(combined(TorchJD("Sum"), grads), combined(Sum(), grads))
    two = {name: grads[name] for name in ("forget", "prior")}  # of two, no order matters
    torch.testing.assert_close(
        combined(TorchJD("PCGrad"), two), combined(PCGrad(), two), atol=1e-5, rtol=1e-5
    )


def test_upgrad_of_two_conflicting_roles_is_its_closed_form():
    """The mean of both gradients, each off its component against the other: half of PCGrad's sum."""
    f, r = torch.tensor([1.0, 0.0]), torch.tensor([-1.0, 2.0])
    roles = {"forget": Role("forget"), "prior": Role("retain")}
    surgery = TorchJD()
    (found,) = surgery.combine({"forget": [f.clone()], "prior": [r.clone()]}, roles)
    expected = ((f - (f @ r) / (r @ r) * r) + (r - (f @ r) / (f @ f) * f)) / 2
    torch.testing.assert_close(found, expected, atol=1e-3, rtol=1e-3)  # its solver regularises by 1e-4
    cosines = [float(found @ g / found.norm() / g.norm()) for g in (f, r)]
    assert surgery.facts()["agreement"] == pytest.approx(min(cosines), abs=1e-6)
    assert min(cosines) > 0


def test_options_reach_the_aggregator():
    grads = three()
    aggregators = importlib.import_module("torchjd.aggregation")
    expected = aggregators.UPGrad(pref_vector=torch.tensor([1.0, 2.0, 3.0]))(matrix_of(grads))
    found = combined(TorchJD("UPGrad", {"pref_vector": [1, 2, 3]}), grads)
    torch.testing.assert_close(flat(found).float(), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", ["Random", "GradDrop", "PCGrad"])
def test_its_randomness_comes_from_seed_and_step_and_leaves_torchs_generator_alone(name):
    def run(step, seed):
        surgery = TorchJD(name)
        surgery.begin(step, 20, seed)
        state = torch.random.get_rng_state()
        found = flat(combined(surgery, three(2)))
        assert torch.equal(state, torch.random.get_rng_state())
        torch.rand(1)
        return found

    assert torch.equal(run(1, 5), run(1, 5))
    assert any(not torch.equal(run(1, 5), run(step, 5)) for step in range(2, 12))


def test_gradients_are_let_go_as_the_matrix_is_filled():
    grads = three()
    TorchJD("Mean").combine(grads, ROLES)
    assert all(part.numel() == 0 for gradient in grads.values() for part in gradient)


def test_a_role_of_weight_0_has_no_row():
    assert not TorchJD().needs(Role("retain", weight=0.0))
    assert TorchJD().needs(Role("retain", weight=0.5))


@pytest.mark.parametrize(
    ("spec", "wrong"),
    [
        ({"aggregator": "UpGrad"}, r"no aggregator is called 'UpGrad'; did you mean 'UPGrad'\?"),
        ({"aggregator": "WeightedAggregator"}, "no aggregator is called"),
        (
            {"options": {"pref_vectr": [1]}},
            r"unknown option 'pref_vectr' of UPGrad; did you mean 'pref_vector'\?",
        ),
        ({"aggregator": "NashMTL"}, r"NashMTL cannot be made \(.*n_tasks"),
        ({"aggregator": "TrimmedMean", "options": {"trim_number": -1}}, "TrimmedMean cannot be made"),
        ({"agregator": "UPGrad"}, r"surgery 'torchjd': unknown key 'agregator'; did you mean 'aggregator'\?"),
    ],
)
def test_what_a_user_gets_wrong_is_one_line(spec, wrong):
    recipe = build_recipe({**RECIPE, "surgery": {"name": "torchjd", **spec}})
    with pytest.raises(UserError, match=wrong) as caught:
        recipe.make_surgery()
    assert "\n" not in str(caught.value)


def test_a_matrix_that_does_not_fit_is_one_line():
    surgery = TorchJD("UPGrad", {"pref_vector": [1, 2]})
    with pytest.raises(UserError, match="UPGrad cannot combine 3 roles' gradients") as caught:
        combined(surgery, three())
    assert "\n" not in str(caught.value)


def test_what_is_not_installed_is_said(monkeypatch):
    with monkeypatch.context() as gone:
        gone.setitem(sys.modules, "torchjd.aggregation", None)
        with pytest.raises(UserError, match=r"torchjd is not installed; pip install 'oubliette\[surgery\]'"):
            TorchJD()
    find = importlib.util.find_spec
    mixins = importlib.import_module("torchjd._mixins")
    monkeypatch.setattr(mixins, "find_spec", lambda name: None if name == "quadprog" else find(name))
    with pytest.raises(UserError, match=r"UPGrad cannot be made \(.*quadprog.*torchjd\[quadprog_projector\]"):
        TorchJD()


def test_an_aggregator_with_a_memory_works_and_cannot_be_resumed():
    surgery = TorchJD("GradVac")
    assert all(torch.isfinite(part).all() for part in combined(surgery, three()))
    with pytest.raises(UserError, match=r"GradVac remembers earlier steps.*cannot be resumed"):
        surgery.load_state({})
    TorchJD("UPGrad").load_state({})


def test_a_recipe_with_it_is_valid():
    surgery = {"name": "torchjd", "aggregator": "UPGrad", "options": {"pref_vector": [1, 2]}}
    validate(build_recipe({**RECIPE, "surgery": surgery}))
