"""BLUR's figures, who leaks, orders of tiers and claims, against numbers worked out by hand."""

from __future__ import annotations

from typing import Any

import pytest

from bench.blur.outcomes import outcome
from oubliette.bench.blur.bench import Benched
from oubliette.bench.blur.claims import claims_of
from oubliette.bench.blur.figures import leaking, measures, order_of, orders, recovery
from oubliette.bench.blur.plan import Plan
from oubliette.bench.blur.table import answer_table, combined_table, recovery_table, tier_table
from oubliette.core.validation import validated

CURVES = {"hi": {2: 0.5, 4: 0.3, 8: 0.4}, "mid": {2: 0.2, 8: 0.7}}


def plan(**more: Any) -> Plan:
    subjects = [{"name": "base", "control": "base"}, {"name": "gold", "control": "gold"}]
    subjects += [{"name": name, "model": name} for name in ("A", "B")]
    return validated(Plan, {"subjects": subjects, **more}, "plan")


def test_leak_and_drop_are_of_the_same_facts_asked_alone() -> None:
    found = measures(outcome("A", leak=0.2, drop=0.3))
    assert found["leak"] == pytest.approx(0.2)
    assert found["drop"] == pytest.approx(0.3)
    assert (found["choices"], found["distractor"]) == (0.9, 0.8)
    assert "alias" not in found


def test_recovery_after_an_epoch_and_at_best_over_the_steps_that_all_tiers_share() -> None:
    one = outcome("A", tiers={"hi": {2: 0.3, 3: 0.9, 4: 0.4}, "mid": {2: 0.2, 4: 0.6, 8: 0.8}})
    assert recovery(one, "epoch") == pytest.approx({"hi": 0.2, "mid": 0.1})
    assert recovery(one, "steps") == pytest.approx({"hi": 0.3, "mid": 0.5})
    assert orders([one], ["A"]) == {"epoch": "hi > mid", "steps": "mid > hi", "changed": "1 of 1"}
    assert orders([one], ["B"]) is None
    assert order_of({"lo": 0.1, "hi": 0.1, "mid": 0.2}) == "mid > hi > lo"


def test_who_is_clean_alone_and_leaks_in_pairs_is_named() -> None:
    group = [
        *(outcome("A", seed, forget=0.1, leak=0.2 + seed / 100) for seed in range(3)),
        *(outcome("B", seed, forget=0.5, leak=0.3) for seed in range(3)),  # not clean
        *(outcome("gold", seed, forget=0.1, leak=0.3) for seed in range(3)),  # no eraser
    ]
    assert leaking(group, ["A", "B"], 0.25) == ["A: 10 % asked alone, 31 % in pairs"]
    unsure = [outcome("A", seed, leak=leak) for seed, leak in enumerate((-0.1, 0.3))]
    assert leaking(unsure, ["A"], 0.25) == []
    assert leaking([outcome("A", leak=0.11)], ["A"], 0.25) == ["A: 10 % asked alone, 21 % in pairs (one run)"]
    assert leaking([outcome("A", leak=0.1)], ["A"], 0.25) == []


def test_claims_are_held_against_the_means_of_erasers() -> None:
    group = [
        outcome("gold", forget=0.0, tiers={"hi": {2: 0.1, 8: 0.1}, "mid": {2: 0.0, 8: 0.0}}),
        outcome("A", drop=0.30, leak=-0.2, tiers=CURVES),
        outcome("A", 1, drop=0.32, leak=-0.2),
        outcome("B", drop=0.30, leak=-0.3, tiers=CURVES),
    ]
    found = {one.says: one for one in claims_of(plan(simple=["A"]), group)}
    drop = found["what must stay is answered worse beside a question of what was to go"]
    assert (drop.value, drop.n, drop.word) == (
        pytest.approx(0.305),
        2,
        "undecided" if drop.low < 0 else "yes",
    )
    assert found["more of what was to go is said beside a question of what must stay"].value == pytest.approx(
        -0.25
    )
    hi = found["tier hi brings back more than of gold"]
    assert (hi.value, hi.low, hi.word) == (pytest.approx(0.3), pytest.approx(0.3), "yes")
    assert found["after an epoch, hi brings back more than mid"].value == pytest.approx(0.3)
    assert found["under equal steps, hi brings back more than mid"].value == pytest.approx(-0.2)
    assert found["under equal steps, hi brings back more than mid"].word == "no"
    assert found["tier lo brings back more than of gold"].word == "not run"
    named = plan(subjects=[{"name": "twin", "control": "gold"}, {"name": "A", "model": "A"}])
    group[0] = outcome("twin", forget=0.0, tiers={"hi": {2: 0.1, 8: 0.1}})
    found["twin"] = next(one for one in claims_of(named, group) if one.says == hi.says)
    assert found["twin"].value == pytest.approx(0.3)
    simple = found["plain ascent does better than the others in pairs"]
    assert simple.n == 1
    assert simple.word == "undecided"


def test_one_eraser_alone_is_told_from_chance_by_its_runs() -> None:
    group = [outcome("A", seed, drop=0.3 + seed / 100) for seed in range(3)]
    found = claims_of(plan(), group)[0]
    assert (found.n, found.word, found.value) == (3, "yes", pytest.approx(0.31))


def test_tables_and_page_lines() -> None:
    group = [outcome("base", forget=1.0), outcome("A", tiers=CURVES), outcome("A", 1, tiers=CURVES)]
    head, rows = combined_table(group)
    assert rows[1][:2] == ["A", "2"]
    assert rows[1][head.index("retain")] == "90 ± 0"
    head, rows = recovery_table(group)
    assert head[2:] == ["hi, epoch", "mid, epoch", "hi, equal steps", "mid, equal steps"]
    assert [row[0] for row in rows] == ["A"]
    assert [row[2:] for row in tier_table(group)[1]] == [["8", "2", "0.250", "0.500"]] * 2
    assert answer_table(group)[1] == [["a? / b?", "forget last, newline", "base says", "A says"]]
    made = Benched(plan(), group, [], orders(group, ["A"]), claims_of(plan(), group), ["B-default-0"])
    text = made.markdown()
    for part in (
        "; 1 not run",
        "a note",
        "Order after an epoch: hi > mid",
        "- none (at most 25 %",
        "1.2e+03 ± ",
    ):
        assert part in text
    assert made.to_dict()["cells"][1]["recovery"]["epoch"]["hi"] == pytest.approx(0.4)
