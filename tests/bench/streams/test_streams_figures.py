"""F.D., R.U., attacks and claims of streams against numbers worked out by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from oubliette.bench.streams.figures import References, curve, held, measures
from oubliette.bench.streams.models import records_of, shuffled, untaught_of
from oubliette.bench.streams.plan import Plan, read_plan
from oubliette.bench.streams.plots import draw_curves
from oubliette.bench.streams.run import Outcome, _checkpoints
from oubliette.bench.streams.table import claim_table, curve_table, measure_table
from oubliette.core.errors import UserError
from oubliette.core.validation import validated
from oubliette.eval.text.deletion import Known

FORGET, RETAIN = ("f0", "f1", "f2", "f3"), ("r0", "r1")


def plan(**more: Any) -> Plan:
    facts: dict[str, Any] = {
        "forget": 4,
        "retain": 2,
        "orders": [7, 8],
        "checkpoints": [2, 4],
        "subjects": [{"name": name, "method": "npo"} for name in ("A", "B")],
    }
    return validated(Plan, {**facts, **more}, "plan")


def flat(value: float) -> Known:
    """A record of score 100 times the value."""
    return Known(value, value, value)


def references(**twins: dict[str, Known]) -> References:
    start = {name: flat(0.8) for name in (*FORGET, *RETAIN)}
    end = {**{name: flat(0.2) for name in FORGET}, **{name: flat(0.6) for name in RETAIN}}
    return References(FORGET, RETAIN, start, end, {"retained": end, **twins})


def states(**values: dict[str, float]) -> dict[str, dict[str, list[float]]]:
    return {
        state.replace("_", " "): {name: [value] * 3 for name, value in known.items()}
        for state, known in values.items()
    }


EARLY = {"f2": 0.5, "f0": 0.5, "f1": 0.7, "f3": 0.7, "r0": 0.7, "r1": 0.7}
LATE = {**dict.fromkeys(FORGET, 0.3), "r0": 0.9, "r1": 0.9}


def outcome(subject: str = "A", seed: int = 0, **more: dict[str, float]) -> Outcome:
    facts = {"methods": {"npo": 4}, "seconds a request": 0.5}
    return Outcome(
        subject, seed, ["f2", "f0", "f1", "f3"], states(after_2=EARLY, after_4=LATE, **more), facts
    )


def test_the_forget_part_is_what_was_asked_for_and_the_retain_part_all_else() -> None:
    found = curve(plan(), outcome(), references())
    # After 2 of 4 the references are half-way: forget (80 + 20) / 2 = 50, retain (80 + 60) / 2 = 70.
    assert found.forgetting == pytest.approx([1.0, 0.5])  # 50 of 50; then 30 of 20
    assert found.utility == pytest.approx([1.0, 0.5])  # 70 of 70; then 90 of 60
    assert found.forgetting_twin == [None, pytest.approx(0.5)]
    twin = {
        "f2": flat(0.25),
        "f0": flat(0.25),
        "f1": flat(0.8),
        "f3": flat(0.8),
        "r0": flat(0.8),
        "r1": flat(0.8),
    }
    found = curve(plan(twins=True), outcome(), references(**{"without-7-2": twin}))
    assert found.forgetting_twin[0] == pytest.approx(0.0)  # 50 is twice 25
    assert found.utility_twin[0] == pytest.approx(0.7 / 0.8)


def test_measures_of_ends_attacks_and_what_was_lost_on_the_way() -> None:
    attacked = {"relearned_1": {"f1": 0.2, "f3": 0.2}, "relearned_5": {"f1": 0.4, "f3": 0.4}}
    made = measures(plan(), outcome(**attacked, **{"4_bits": {"f1": 0.2, "f3": 0.2}}), references())
    assert made["F.D."] == pytest.approx(0.5)
    assert made["mean F.D."] == pytest.approx(0.75)
    assert made["R.U. since the first"] == pytest.approx(-0.5)
    assert made["recovered"] == pytest.approx(0.1)  # from 30 to 40, over 100
    assert made["F.D. moved by relearning"] == pytest.approx(0.5)  # 0.5 before, 1.0 and 0.0 on the way
    assert made["F.D. moved by rounding"] == pytest.approx(0.5)
    assert "R.U. (twins)" not in made
    assert "recovered" not in measures(plan(), outcome(), references())


def test_claims_are_paired_by_order_and_need_an_interval_on_one_side() -> None:
    claims = [
        {"says": "A is higher", "measure": "R.U.", "subject": "A", "against": ["B"], "above": 0},
        {"says": "A is lower", "measure": "R.U.", "subject": "A", "against": ["B"], "below": 0},
        {"says": "A is high", "measure": "R.U.", "subject": "A", "above": 0.55},
        {"says": "none", "measure": "recovered", "subject": "A", "above": 0},
    ]
    cells = {
        "A": {0: {"R.U.": 0.50}, 1: {"R.U.": 0.61}, 2: {"R.U.": 0.59}},
        "B": {0: {"R.U.": 0.40}, 1: {"R.U.": 0.50}, 2: {"R.U.": 0.50}, 3: {"R.U.": 0.9}},
    }
    higher, lower, high, none = held(plan(claims=claims), cells)
    assert (higher.word, lower.word, high.word, none.word) == ("yes", "no", "undecided", "not run")
    assert (higher.value, higher.n) == (pytest.approx(0.1), 3)
    # 0.10, 0.11, 0.09: t(2) = 4.303 times 0.01 / sqrt(3) on either side.
    assert higher.low == pytest.approx(0.1 - 4.3027 * 0.01 / 3**0.5, abs=1e-5)
    one = held(plan(claims=claims[:1]), {"A": {0: {"R.U.": 1.0}}, "B": {0: {"R.U.": 0.0}}})
    assert one[0].word == "undecided"  # one order says nothing of others


def test_tables_and_curves_say_what_was_found(tmp_path: Path) -> None:
    asked, cells = plan(), [outcome("A", 0), outcome("A", 1), outcome("B", 0)]
    found = {
        "A": {seed: measures(asked, cells[seed], references()) for seed in (0, 1)},
        "B": {0: measures(asked, cells[2], references())},
    }
    table = measure_table(cells, found)
    assert "| A | 2 | 0.50 ± 0.00 | 0.50 ± 0.00 |" in table
    assert "| npo 8 | 0.50 ± 0.00 |" in table
    curves = {"A": [curve(asked, cells[0], references())], "B": [curve(asked, cells[2], references())]}
    assert "| A | 1.00 / 1.00 | 0.50 / 0.50 (0.50 / 0.50) |" in curve_table(curves, [2, 4])
    made = draw_curves(curves, [2, 4], tmp_path / "curves.png")
    assert made is not None
    assert made.read_bytes() == draw_curves(curves, [2, 4], tmp_path / "again.png").read_bytes()  # type: ignore[union-attr]
    assert draw_curves({}, [2, 4], tmp_path / "none.png") is None
    claims = [{"says": "A is lower", "measure": "R.U.", "subject": "A", "below": 0.9}]
    assert "| A is lower | A | R.U. | +0.50 [+0.50, +0.50], under 0.9 | 2 | yes |" in claim_table(
        held(plan(claims=claims), found)
    )


def test_a_twin_is_not_taught_what_was_asked_for_first_in_its_order() -> None:
    asked = plan(twins=True)
    assert [twin.name for twin in asked.models()] == ["learned", "retained", "without-7-2", "without-8-2"]
    untaught = {twin.name: [one.id for one in untaught_of(asked, twin)] for twin in asked.models()}
    assert untaught["learned"] == []
    assert untaught["retained"] == [record.id for record in records_of(asked).forget]
    for order in asked.orders:
        assert untaught[f"without-{order}-2"] == [record.id for record in shuffled(asked, order)[:2]]
    assert untaught["without-7-2"] != untaught["without-8-2"]


def test_a_stream_with_copies_is_asked_where_as_many_originals_were() -> None:
    asked = plan(subjects=[{"name": "A", "method": "npo", "copies": 3}])
    requests = shuffled(asked, 8, copies=3)
    assert len(requests) == 7
    ids, places = _checkpoints(asked, requests)
    assert sorted(ids) == sorted(record.id for record in records_of(asked).forget)
    assert places[-1] == 7
    assert len({record.of for record in requests[: places[0]]}) == 2
    assert len({record.of for record in requests[: places[0] - 1]}) == 1


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"checkpoints": [4, 2]}, "numbers of requests from 1 that grow"),
        ({"checkpoints": [2, 6]}, "the last checkpoint is 6, and the stream has 4 requests"),
        ({"subjects": [{"name": "A", "method": "npo"}] * 2}, "two subjects have one name"),
        ({"subjects": []}, "give subjects, or trials"),
        ({"subjects": [{"name": "A", "method": "npo", "copies": 9}]}, "no more than it has requests"),
        ({"claims": [{"says": "", "measure": "R.U.", "subject": "C", "above": 0}]}, "a claim names 'C'"),
        ({"claims": [{"says": "", "measure": "RU", "subject": "A", "above": 0}]}, "did you mean 'R.U.'"),
        ({"claims": [{"says": "", "measure": "R.U.", "subject": "A"}]}, "give 'above' or 'below'"),
    ],
)
def test_plans_that_cannot_be(change: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        plan(**change)


@pytest.mark.parametrize("name", ["fit", "fit-tuning"])
def test_shipped_plans_fit_the_base_and_give_each_method_as_many_trials(name: str) -> None:
    shipped = read_plan(name)
    assert {len(trials.subjects()) for trials in shipped.trials} <= {4}
    tuned, reported = read_plan("fit-tuning"), read_plan("fit")
    assert tuned.seed != reported.seed
    assert not set(tuned.orders) & set(reported.orders)


def test_a_subject_that_is_no_method_is_refused(tmp_path: Path) -> None:
    (tmp_path / "plan.yaml").write_text(
        "forget: 4\ncheckpoints: [4]\nsubjects: [{name: A, control: base}]\n", encoding="utf-8"
    )
    with pytest.raises(UserError, match="subject 'A': a stream is of a method"):
        read_plan(tmp_path / "plan.yaml")
