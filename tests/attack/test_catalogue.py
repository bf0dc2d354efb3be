"""The catalogue holds what the field published, and each entry can be opened."""

from __future__ import annotations

import math

import pytest

from attack.attacked import answering, denoising, diffusion, language
from oubliette.attack.catalogue import attack, catalogue, make_attack
from oubliette.attack.relearn import relearn
from oubliette.core.errors import UserError
from oubliette.data.concept import Concept
from oubliette.train.cost import Cost

CAR = Concept("car", "vehicle", synonyms=("coupe",))
PICTURES = ["F1", "F2", "F3", "L1", "L2", "D1", "D2", "D3", "T1", "T2", "B1", "B2", "B3"]
ROWS = ["R1", "R2", "R3", "R4", "O1"]
NAMES = [*PICTURES, *ROWS]
#: (steps, items a step, effective learning rate), as in the table of published budgets.
PUBLISHED = {
    "F1": (2000, 4, 1e-5),
    "L1": (1000, 1, 1e-4),
    "D1": (400, 1, 5e-6),
    "D2": (800, 1, 5e-6),
    "D3": (500, 1, 1e-4),
    "T1": (3000, 4, 5e-4 * 4),
    "T2": (5000, 16, 5e-3 * 16),
    "B1": (200, 4, 1e-5),
    "R1": (100, 4, 2e-5),
    "R2": (15, 4, 1e-5),
    "R3": (13, 32, 2e-5),
    "R4": (38, 16, 1e-4),
    "O1": (250, 32, 2e-5),
}


def test_it_is_complete():
    assert sorted(catalogue()) == sorted([*NAMES, *(f"{name}-nano" for name in NAMES)])
    for name, found in catalogue().items():
        assert found.name == name
        assert found.about
        assert found.source
        assert found.benign == name.startswith(("B", "O"))
        assert (found.data == "unrelated") == name.startswith("O")
        assert found.samples == ("answers" if name.removesuffix("-nano") in ROWS else "pictures")
        assert found.masked == name.startswith("F3")
        assert (found.identifier is not None) == name.startswith("D")
        assert not found.learning_rates or found.budget.learning_rate in found.learning_rates


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_budgets(name):
    budget = attack(name).budget
    steps, items, rate = PUBLISHED[name]
    assert (budget.steps, budget.batch * budget.accumulation) == (steps, items)
    assert budget.learning_rate == pytest.approx(rate)
    assert budget.optimizer == "adamw"


def test_budgets_of_rows_show_what_their_source_does() -> None:
    """Steps that see each row once, or six times (OFFSIDE); Unlearn-Smooth's linear decay after a tenth."""
    for name, epochs in (("R1", 1), ("R2", 1), ("R3", 1), ("O1", 1), ("R4", 6)):
        budget = attack(name).budget
        assert budget.steps == math.ceil(epochs * budget.pictures / (budget.batch * budget.accumulation))
    short, offside = attack("R2").budget, attack("R4")
    assert (short.schedule, short.warm_up, short.batch) == ("linear", 2, 1)
    assert attack("R3").budget.weight_decay == 0
    assert (offside.budget.rank, offside.budget.alpha, offside.options) == (8, 32, {"targets": "all-linear"})


def test_the_small_ones_are_the_prototypes():
    budget = attack("F2-nano").budget
    assert (budget.pictures, budget.batch, budget.learning_rate) == (16, 16, 1e-4)
    for name in NAMES:
        assert attack(name).mode == attack(f"{name}-nano").mode
        assert attack(name).data == attack(f"{name}-nano").data


@pytest.mark.parametrize("name", NAMES)
def test_every_attack_runs(name):
    found = attack(f"{name}-nano").changed(steps=1, batch=2, warm_up=0)
    model = diffusion() if name in PICTURES else language()
    data = denoising(model) if name in PICTURES else answering(model)
    done = relearn(model, data, found.mode, found.budget, options=found.mode_options(CAR, ["auto"]))
    assert len(done.records) == 1


def test_prompts():
    assert attack("F1").prompts(CAR) is None
    assert attack("B2").prompts(CAR) is None
    token, identified = attack("T1").prompts(CAR, ["auto"]), attack("D1").prompts(CAR, ["auto"])
    assert token is not None
    assert identified is not None
    assert token("a red auto and a coupe") == "a red <concept> and a <concept>"
    assert identified("a red auto and a coupe") == "a red sks vehicle and a sks vehicle"
    style = attack("D1").prompts(Concept("neon", "picture", "style"))
    assert style is not None
    assert style("a car in neon style") == "a car in sks style"


def test_costs_are_known_beforehand():
    assert attack("F2-nano").cost() == Cost(forwards=1024, backwards=1024)
    # 800 steps of one picture and one of the prior; 200 pictures of 25 steps of two passes.
    assert attack("D2").cost() == Cost(forwards=1600 + 200 * 50, backwards=1600, pictures=200)


def test_a_users_own_attack_is_checked():
    facts = {"mode": "lora", "options": {"targets": "xattn"}, "budget": {"steps": 5}}
    assert make_attack("mine", facts).budget.steps == 5
    for wrong, match in (
        ({"budget": {"steps": 0}}, "attack 'mine': 'budget.steps'"),
        ({"budget": {"stepz": 5}}, "unknown key 'budget.stepz'; did you mean 'steps'"),
        ({"mode": "lorra"}, "did you mean 'lora'"),
        ({"options": {"rank": 3}}, "mode 'lora': unknown key 'rank'"),
        ({"data": "concept+prior"}, "'prior_pictures' must be above 0"),
        ({"prior_pictures": 3}, "'prior_pictures' must be above 0"),
        ({"dta": "benign"}, "did you mean 'data'"),
    ):
        with pytest.raises(UserError, match=match):
            make_attack("mine", facts | wrong)
    with pytest.raises(UserError, match="no attack is called 'F4'; did you mean"):
        attack("F4")
