"""Learning a mask end to end: theta_ft given or made on the spot, both kinds of model, several budgets."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict

import pytest
import torch

from attack.attacked import assert_untouched, diffusion, snapshot
from guard.learning import SHORT, USER, answers, cars, dogs, shaken, talk
from oubliette.core.errors import UserError
from oubliette.guard.learn.budget import Budget
from oubliette.guard.learn.learn import learn
from oubliette.guard.learn.stability import jaccard

QUICK = {"name": "saliency", **SHORT["saliency"]}


@pytest.fixture(scope="module")
def model():
    return diffusion()


def test_a_mask_on_the_spot(model):
    before = snapshot(model)
    learned = learn(
        model,
        illegal=cars(model),
        innocent=[dogs(model), dogs(model, 3)],
        learner=QUICK,
        budget=0.3,
        budgets=[0.5, {"share": 0.2, "of": "tensors"}],
        user=USER,
        batch=2,
    )
    assert_untouched(model, before)
    tensors = model.tensors()
    share = sum(tensors[name].numel() for name in learned.names) / sum(learned.candidates.sizes.values())
    assert learned.got.parameters == pytest.approx(share)
    assert 0.2 < share <= 0.3
    assert learned.got.tensors == pytest.approx(len(learned.names) / len(learned.candidates.sizes))
    assert set(learned.names) == set(
        learned.candidates.expand(n for n in learned.names if n in learned.scores)
    )
    assert [str(part.budget) for part in learned.further] == ["50 % of the parameters", "20 % of the tensors"]
    assert learned.further[0].got.parameters <= 0.5
    assert learned.further[1].got.tensors <= 0.2
    assert learned.cut(0.5) == learned.further[0]
    facts = json.loads(json.dumps(learned.facts))
    assert facts["relearned"] == "on the spot"
    assert facts["user"]["steps"] == len(facts["user_losses"]) == USER.steps
    assert facts["rows"] == {"illegal": 4, "innocent": 9}
    assert facts["scores"] == "worth"
    assert facts["stability"] == asdict(learned.stability)


def test_theta_ft_on_the_spot_is_what_the_loop_makes(model):
    """The user is the shared loop's: the same run elsewhere ends in the same difference."""
    from oubliette.guard.learn.draws import Mixture, seed_for
    from oubliette.train.finetune import FineTune
    from oubliette.train.loop import Loop
    from oubliette.train.weights import Weights

    fixed = {"learner": QUICK, "batch": 2, "split_half": False}
    spot = learn(model, illegal=cars(model), innocent=dogs(model), user=USER, **fixed)
    tuned = diffusion()
    named = {name: tensor for name, tensor in tuned.tensors().items() if name.startswith("unet.")}
    sides = Mixture([[cars(tuned)], [dogs(tuned)]])
    Loop(
        tuned, FineTune(), sides, Weights(named), USER, seed=seed_for(0, "relearn"), show_progress=False
    ).run()
    given = learn(model, illegal=cars(model), innocent=dogs(model), relearned=tuned, **fixed)
    assert given.scores == spot.scores
    assert given.names == spot.names
    assert given.facts["relearned"] == "given"


def test_stability_is_over_disjoint_rows_where_they_can_be_dealt(model):
    fixed = {"learner": QUICK, "relearned": shaken(model), "batch": 2}
    rows = learn(model, illegal=cars(model), innocent=dogs(model), **fixed)
    assert rows.stability.over == "rows"
    assert 0 <= rows.stability.parameters <= 1
    assert 0.1 < rows.stability.chance < 0.18  # 0.3 / 1.7
    sure = learn(model, illegal=cars(model), innocent=dogs(model), **{**fixed, "learner": "largest"})
    assert (sure.stability.parameters, sure.stability.tensors) == (1, 1)
    none = learn(model, illegal=cars(model), innocent=dogs(model), **fixed, split_half=False)
    assert none.stability is None


def test_jaccard_by_hand():
    assert jaccard("abc", "bcd") == 2 / 4
    assert jaccard("abc", "bcd", {"a": 5, "b": 1, "c": 1, "d": 3}) == 2 / 10
    assert jaccard("", "") == 1


@pytest.mark.parametrize("learner", ["saliency", "bilevel"])
def test_a_language_model_is_guarded_by_the_same_file(learner):
    model = talk()
    wrong, right = answers(model)
    before = snapshot(model)
    learned = learn(
        model,
        illegal=wrong,
        innocent=right,
        learner={"name": learner, **SHORT[learner]},
        budget=0.4,
        user=USER,
        batch=2,
    )
    assert_untouched(model, before)
    assert 0.2 < learned.got.parameters <= 0.4
    assert set(learned.names) <= set(model.tensors())
    again = learn(
        model,
        illegal=wrong,
        innocent=right,
        learner={"name": learner, **SHORT[learner]},
        budget=0.4,
        user=USER,
        batch=2,
        split_half=False,
    )
    assert again.scores == learned.scores


def test_a_text_encoder_is_guarded_by_its_scope(model):
    fixed = {"illegal": cars(model), "innocent": dogs(model), "batch": 2, "split_half": False}
    learned = learn(model, learner=QUICK, scope="text-encoder", relearned=shaken(model), **fixed)
    assert all(name.startswith("text_encoder.") for name in learned.names)
    assert learned.facts["scope"] == "text-encoder"


def test_the_released_rule_reports_its_own_mask(model):
    learned = learn(
        model,
        illegal=cars(model),
        innocent=dogs(model),
        learner={"name": "released", **SHORT["released"], "sparsity": 1.0},
        budget={"share": 0.3, "of": "tensors"},
        relearned=shaken(model),
        each="tensor",
        batch=2,
        split_half=False,
    )
    assert learned.order
    assert learned.own is not None
    assert learned.facts["own"]["got"]["tensors"] == pytest.approx(
        len(learned.own) / len(learned.candidates.sizes)
    )
    assert learned.got.tensors <= 0.3


def test_the_model_comes_back_when_the_user_fails(model):
    before = snapshot(model)
    wild = USER.model_copy(update={"learning_rate": 1e30, "clip": None})
    with pytest.raises(UserError):
        learn(model, illegal=cars(model), innocent=dogs(model), learner=QUICK, user=wild, batch=2)
    assert_untouched(model, before)


def test_bad_input_is_one_line(model):
    sides = {"illegal": cars(model), "innocent": dogs(model), "relearned": shaken(model), "batch": 2}
    before = snapshot(model)
    cases = [
        ({"illegal": []}, "no illegal data"),
        ({"innocent": ()}, "no innocent data"),
        ({"illegal": ["pictures"]}, "found str"),
        ({"relearned": model}, "equal the base's"),
        ({"relearned": talk()}, "lack"),
        ({"relearned": {}}, "lack"),
        ({"budget": 0}, "between 0 and 1"),
        ({"budget": 1.0}, "between 0 and 1"),
        ({"budget": Budget(1e-7)}, "choose a greater share"),
        ({"budgets": [0.3, 2]}, "between 0 and 1"),
        ({"learner": "salient"}, "did you mean 'saliency'"),
        ({"learner": {"name": "saliency", "points": 0}}, "'points'"),
        ({"learner": {"points": 1}}, "'name' is missing"),
        ({"scope": "everything"}, "no scope is called"),
        ({"each": "block"}, "'weight' or 'tensor'"),
        ({"difference": "int8"}, "bfloat16, float16, float32"),
        ({"batch": 0}, "at least one row"),
        ({"precision": "fp8"}, "precision"),
    ]
    for wrong, said in cases:
        with pytest.raises(UserError, match=said) as caught:
            learn(model, **{**sides, "learner": QUICK, **wrong})
        assert "\n" not in str(caught.value)
    assert_untouched(model, before)


def test_listing_learners_loads_no_torch():
    code = (
        "import sys; from oubliette.guard.learners import LEARNERS; import oubliette.guard; LEARNERS.names();"
        "assert not {'torch', 'diffusers', 'transformers'} & set(sys.modules), 'heavy'"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_a_mask_is_made_of_what_was_learned(model):
    mask = pytest.importorskip("oubliette.guard.mask")
    fixed = {"illegal": cars(model), "innocent": dogs(model), "batch": 2, "split_half": False}
    learned = learn(model, learner=QUICK, relearned=shaken(model), **fixed)
    made = mask.Mask.make(
        model,
        learned.names,
        budget=learned.budget,
        learned=learned.facts,
        scores=learned.scores,
        candidates=learned.candidates.sizes,
    )
    assert made.names == list(learned.names)
    assert made.budget.parameter_share == pytest.approx(learned.got.parameters)
    assert made.budget.tensor_share == pytest.approx(learned.got.tensors)
    assert torch.tensor(list(made.scores.values())).tolist() == pytest.approx(list(learned.scores.values()))
