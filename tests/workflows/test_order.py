"""An order has what commands, Python and streams may ask for; a job says how its result is looked at."""

from __future__ import annotations

import inspect
from dataclasses import fields

import pytest

from oubliette import api
from oubliette.commands import erase as command
from oubliette.core.errors import UserError
from oubliette.workflows.continual.requests import StreamRequest
from oubliette.workflows.order import Job, Order

ORDERED = {field.name for field in fields(Order)}


def test_whoever_orders_orders_the_same_things() -> None:
    told = set(inspect.signature(api.erase).parameters) - {
        "model",
        "callback",
        "callback_every",
        "show_progress",
    }
    # A preset is a method too; saving is the result's own; a policy decides about many requests.
    assert ORDERED - told == {"preset", "save", "policy"}
    assert told <= ORDERED
    own = {"preset", "save", "overrides", "policy", "prompting"}  # the whole stream's, as its model is
    assert set(StreamRequest.model_fields) - {"set", "id"} == ORDERED - own
    options = set(inspect.signature(command.erase).parameters)
    asked = {"system", "shots", "template"}  # of which prompting is made
    assert ORDERED - {"preset", "overrides", "prompting"} | asked <= options


def test_a_required_leakage_makes_auto_on() -> None:
    assert [Job(check=check).mode for check in ("auto", "on", "off")] == ["auto", "on", "off"]
    assert [Job(check=check, require_leakage=0.1).mode for check in ("auto", "on")] == ["on", "on"]
    assert Job(require_leakage=1).mode == "on"


@pytest.mark.parametrize(
    ("job", "message"),
    [
        (Job(check="maybe"), "no check mode 'maybe'"),
        (Job(require_leakage=0), "must lie in 0..1 .*found 0"),
        (Job(require_leakage=1.5), "found 1.5"),
        (Job(check="off", require_leakage=0.1), "leave out --check off"),
    ],
)
def test_what_does_not_go_together_is_refused(job: Job, message: str) -> None:
    with pytest.raises(UserError, match=message):
        _ = job.mode


def test_the_bounds_are_the_usual_ones_unless_a_leakage_is_required() -> None:
    assert Job().bounds is None
    bounds = Job(require_leakage=0.07).bounds
    assert bounds is not None
    assert bounds.leakage == 0.07
