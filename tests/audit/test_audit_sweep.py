"""A swept row: the worst attacker under the cap, found on other seeds, run again on the suite's own."""

from __future__ import annotations

from typing import Any

import pytest

from audit import toys
from oubliette.audit import dry
from oubliette.audit.attack_cache import RowOutput
from oubliette.audit.attack_runner import PictureAttackRunner
from oubliette.audit.context import AuditContext
from oubliette.audit.read_suite import build_suite
from oubliette.audit.result import Audit, RowResult
from oubliette.audit.suite import BenignRow, RelearnRow
from oubliette.audit.sweeping import rates_of
from oubliette.core.errors import UserError
from oubliette.eval.pictures.sampling import Sampling
from oubliette.report import audit_words
from oubliette.workflows.audit import conclude, run_rows
from oubliette.workflows.audit_setup import Setting
from oubliette.world.facts import PICTURE

#: Multiples of the speed at which a pupil relearns.
RATES = [0.25, 1.0, 4.0]


def swept(**sweep: Any) -> dict[str, Any]:
    return {**toys.RELEARN, "sweep": {"learning_rates": RATES, **sweep}}


def run(model: toys.Pupil, row: dict[str, Any], **more: Any) -> tuple[AuditContext, RowOutput]:
    bench = toys.bench(model, gold=toys.gold(), suite=toys.suite(row, pictures=24, points=5, **more))
    return bench, run_rows(bench, None, show_progress=False)[1]


def relearnt(model: toys.Pupil, rate: float, seed: int) -> RowResult:
    """The same row at one rate, without a sweep."""
    row = {**toys.RELEARN, "budget": {"steps": toys.STEPS, "learning_rate": rate}}
    bench = toys.bench(model, gold=toys.gold(), suite=toys.suite(row, pictures=24, points=5))
    bench.seed = seed
    return run_rows(bench, None, show_progress=False)[1].row


def test_the_worst_rate_is_found_on_other_seeds_and_reported_on_the_suites() -> None:
    bench, output = run(toys.Pupil(half=8.0, source="erased"), swept(), seeds=2)
    row = output.row
    assert row.sweep is not None
    assert row.sweep.winner == 4.0
    assert [(one.learning_rate, one.seed) for one in row.sweep.tried] == [
        (rate, seed) for rate in RATES for seed in (10_000, 10_001)
    ]
    search = [("erased", seed) for _ in RATES for seed in (10_000, 10_001)]
    assert bench.driver.trained == [*search, ("erased", 0), ("gold", 0), ("erased", 1), ("gold", 1)]
    assert row.budget["learning_rate"] == 4.0
    # What is reported is the row as it would be at that rate, and nothing of the sweep's own runs.
    plain = relearnt(toys.Pupil(half=8.0, source="erased"), 4.0, 0)
    assert row.of("model")[0] == plain.of("model")[0]
    assert row.of("gold")[0] == plain.of("gold")[0]
    assert {sample["run"] for sample in output.samples} == {0, 1}


def test_strength_is_the_area_and_kept_the_last_point_that_counts() -> None:
    _, output = run(toys.Pupil(half=8.0, breaks=40, source="erased"), swept(seeds=1))
    assert output.row.sweep is not None
    for one in output.row.sweep.tried:
        rate = one.learning_rate
        found = relearnt(toys.Pupil(half=8.0, breaks=40, source="erased"), rate, one.seed).of("model")[0]
        assert one.strength == found.area
        counted = [reading for reading in found.readings if not reading.broken]
        assert counted[-1].kept is not None
        assert one.kept == counted[-1].kept.value


def test_rates_that_break_the_model_at_once_cannot_win() -> None:
    """Rates of 1 and 4 ruin it before a second point counts; the weakest is what is left."""
    _, output = run(
        toys.Pupil(half=2.0, breaks=1, source="erased"), swept(seeds=1, learning_rates=[0.004, 1, 4])
    )
    assert output.row.sweep is not None
    assert output.row.sweep.winner == 0.004
    assert [(one.strength, one.kept) for one in output.row.sweep.tried[1:]] == [(0, 0), (0, 0)]


def test_where_no_rate_keeps_enough_the_row_is_skipped_and_says_so() -> None:
    bench, output = run(
        toys.Pupil(half=2.0, breaks=1, source="erased"), swept(seeds=1, learning_rates=[1, 4])
    )
    row = output.row
    assert row.status == "skipped"
    assert row.note == "no learning rate of the sweep kept 90 % of the rest"
    assert row.sweep is not None
    assert row.sweep.winner is None
    assert len(row.sweep.tried) == 2
    assert (row.curves, row.sooner) == ([], None)
    assert audit_words.sweep(row.sweep).replace("\u00a0", " ") == (
        "1: area 0.00, 0 % kept; 4: area 0.00, 0 % kept; none keeps 90 %"
    )
    rows = run_rows(bench, None, show_progress=False)
    found = conclude(Setting(bench, {"model": "m", "base": "b", "gold": "g"}, []), rows)
    assert any("no learning rate" in line for line in found.verdict.limits)
    assert Audit.from_json(found.to_json()) == found


def test_without_anything_kept_there_is_no_cap_and_no_sweep() -> None:
    _, output = run(toys.Pupil(), swept(), kept=0)
    assert output.row.status == "skipped"
    assert "a sweep must know what is kept" in output.row.note


def test_a_sweep_is_counted_beforehand() -> None:
    def planned(row: dict[str, Any]) -> dry.PlannedRow:
        bench = toys.bench(toys.Pupil(), gold=toys.gold(), suite=toys.suite(row, seeds=2))
        return dry.plan(bench).rows[1]

    bare, whole = planned(toys.RELEARN), planned(swept(seeds=3))
    # Two runs on model and gold, and three rates on three seeds on the model.
    assert (bare.runs, bare.subjects, bare.sweep) == (2, 2, 0)
    assert (whole.runs, whole.subjects, whole.sweep) == (2, 2, 9)
    for count in ("forwards", "backwards", "pictures"):
        assert getattr(whole, count) * 4 == getattr(bare, count) * (4 + 9)


def attacks() -> PictureAttackRunner:
    import tiny_erasure

    return PictureAttackRunner(
        toys.CAR, tiny_erasure.backend(), sampling=Sampling(steps=2, guidance=2.0, batch=4)
    )


def test_a_row_begins_with_the_catalogues_rates_or_its_own() -> None:
    from oubliette.audit.resolve import resolve

    made = attacks()
    plain = made.describe(RelearnRow(attack="F2"))
    row = RelearnRow.model_validate({"attack": "F2", "sweep": True})
    found = made.describe(row)
    assert found.sweep == 3 * 2
    assert found.budget["sweep"]["learning_rates"] == [1e-5, 5e-5, 1e-4]
    assert found.title == f"{plain.title}, worst of 3 learning rates"
    assert found.cost == plain.cost
    own = RelearnRow.model_validate({"mode": "xattn", "sweep": {"learning_rates": [1e-3], "seeds": 1}})
    assert made.describe(own).sweep == 1
    assert rates_of(own, resolve(own)) == [1e-3]
    nano = RelearnRow.model_validate({"attack": "L1", "sweep": {}})
    assert rates_of(nano, resolve(nano, PICTURE)) == [5e-4, 1e-3, 3e-3]
    benign = BenignRow.model_validate({"attack": "B1", "sweep": True})
    assert made.describe(benign).sweep == 6


def test_an_attack_without_rates_cannot_be_swept() -> None:
    with pytest.raises(UserError, match="'T1' names no learning rates"):
        attacks().describe(RelearnRow.model_validate({"attack": "T1", "sweep": True}))


def test_a_row_without_a_sweep_is_written_as_ever() -> None:
    """So that its parts are found in the cache, and an audit that was begun before can be resumed."""
    row = {"row": "relearn", "attack": "F2"}
    for off in ({}, {"sweep": False}, {"sweep": None}):
        suite = build_suite({"rows": [{"row": "evaluation"}, {**row, **off}]})
        assert "sweep" not in suite.model_dump(mode="json")["rows"][1]
    suite = build_suite({"rows": [{"row": "evaluation"}, {**row, "sweep": True}]})
    again = build_suite(suite.model_dump(mode="json"))
    assert again == suite
    assert again.rows[1].sweep.keep_at_least == 0.9


def test_the_full_suite_sweeps_f2_and_l1() -> None:
    from oubliette.audit.read_suite import read_suite

    rows = read_suite("full").rows
    assert [row.attack for row in rows if getattr(row, "sweep", None) is not None] == ["F2", "L1"]
