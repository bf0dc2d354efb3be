"""A budget is checked, and says to the loop what it says."""

from __future__ import annotations

import pytest

from oubliette.core.errors import UserError
from oubliette.train.tuning.budget import Budget


@pytest.mark.parametrize(
    "field", ["pictures", "steps", "batch", "accumulation", "learning_rate", "rank", "alpha"]
)
def test_a_zero_is_refused(field):
    with pytest.raises(UserError, match=f"budget: '{field}': .*greater than.*found 0"):
        Budget.of(**{field: 0})
    with pytest.raises(UserError, match=f"row 3: '{field}'"):
        Budget().changed("row 3", **{field: -1})


def test_an_unknown_field_is_refused():
    with pytest.raises(UserError, match="unknown key 'step'; did you mean 'steps'"):
        Budget.of(step=3)


def test_the_loop_is_told_all_of_it():
    fields = {
        "steps": 7,
        "batch": 3,
        "accumulation": 2,
        "learning_rate": 0.5,
        "optimizer": "sgd",
        "weight_decay": 0.25,
        "schedule": "linear",
        "warm_up": 2,
        "clip": None,
        "precision": "bf16",
    }
    config = Budget.of(**fields).train_config()
    assert {name: getattr(config, name) for name in fields} == fields
    assert (
        Budget.of(**fields).changed(steps=9).model_dump() == Budget.of(**fields | {"steps": 9}).model_dump()
    )
