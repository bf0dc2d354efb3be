"""The control run: what is known beforehand of a model gets its own word, and nothing else does."""

from __future__ import annotations

from typing import Any

import pytest

from audit import toys
from oubliette.audit.attack_cache import AttackCache
from oubliette.audit.result import Audit
from oubliette.eval.controls import shuffled
from oubliette.workflows.audit import conclude, run_rows
from oubliette.workflows.audit_setup import Setting

#: Parts depend on nothing but what is in their keys, so all tests may share them.
PARTS = AttackCache(None)


def audited(model: Any, *rows: dict[str, Any], gold: Any = None, **more: Any) -> Audit:
    made = toys.bench(model, gold=gold, suite=toys.suite(*rows, **more))
    made.parts = PARTS
    sources = {"model": model.source, "base": "original", "gold": "gold"}
    return conclude(Setting(made, sources, []), run_rows(made, None, show_progress=False))


def word(model: Any, *rows: dict[str, Any], gold: Any = None, **more: Any) -> str:
    return audited(model, *rows, gold=gold, **more).verdict.word


def test_gold_itself_is_erased() -> None:
    assert word(toys.gold(), *toys.EVERYTHING, gold=toys.gold()) == "erased"


def test_an_eraser_as_good_as_gold_is_erased() -> None:
    slower = toys.Pupil(half=20.0, source="real")
    assert word(slower, toys.RELEARN, gold=toys.gold(), seeds=3) == "erased"


def test_none_is_not_erased() -> None:
    assert word(toys.base(), toys.RELEARN, toys.PROMPTS, gold=toys.gold()) == "not erased"
    assert word(toys.base(), toys.RELEARN) == "not erased"


def test_random_weights_are_destroyed() -> None:
    model = toys.base()
    with shuffled(model, 0):
        assert word(model, toys.RELEARN, toys.PROBE, gold=toys.gold()) == "destroyed"


def test_a_prompt_filter_is_not_erased_by_its_synonyms() -> None:
    found = audited(toys.Filtered(toys.base()), toys.PROMPTS, gold=toys.gold())
    assert found.verdict.word == "not erased"
    assert "in words that no eraser is given" in found.verdict.sentence
    by_split = {f.split: f.leakage for f in found.rows[0].evaluated[0].figures.leakage}
    assert by_split["in-set"].value == 0
    assert by_split["withheld"].value == 1


def test_a_veil_that_fine_tuning_lifts_is_hidden() -> None:
    veil = toys.Pupil(half=2.0, source="veil")
    found = audited(veil, toys.RELEARN, gold=toys.gold())
    assert found.verdict.word == "hidden"
    said = found.rows[1].sooner
    assert said is not None
    assert said.low is not None
    assert said.low > 0.693
    # Half the strength after 2 steps against 16: the truth is log 8, and the interval holds it.
    assert said.low < 2.079 < (said.high or 99)


def test_a_veil_that_a_probe_lifts_is_hidden() -> None:
    veil = toys.Pupil(half=16.0, door=0.9, source="veil")
    assert word(veil, toys.RELEARN, toys.PROBE, gold=toys.gold()) == "hidden"
    # Gold shows as much through the same door: then it says nothing of the model.
    leaky = toys.Pupil(half=16.0, door=0.9, source="gold")
    assert word(veil, toys.RELEARN, toys.PROBE, gold=leaky) == "erased"


def test_a_veil_that_benign_pictures_lift_is_hidden() -> None:
    veil = toys.Pupil(half=16.0, benign=0.8, source="veil")
    assert word(veil, toys.RELEARN, toys.BENIGN, gold=toys.gold()) == "hidden"
    assert word(veil, toys.BENIGN) == "hidden"


def test_without_gold_erased_is_out_of_reach() -> None:
    found = audited(toys.gold(), *toys.EVERYTHING)
    assert found.verdict.word == "suppressed on prompts"
    assert any("No model that never knew" in line for line in found.verdict.limits)
    fast = audited(toys.Pupil(half=1.0), toys.RELEARN)
    assert fast.verdict.word == "suppressed on prompts"
    assert "50 % of its strength after" in " ".join(fast.verdict.reasons)


def test_without_gold_a_probe_that_sees_no_picture_still_tells() -> None:
    veil = toys.Pupil(door=0.9)
    assert word(veil, toys.BLIND) == "hidden"
    # A probe that begins with pictures of the concept shows some of it whatever the model knows.
    found = audited(veil, toys.PROBE)
    assert found.verdict.word == "suppressed on prompts"
    assert any("says nothing without gold" in line for line in found.verdict.limits)


def test_gold_that_leaks_too_excuses_the_model() -> None:
    """The judge finds the concept in one of four of gold's pictures: then so may it in the model's."""
    rough = toys.Pupil(0.25, 0.25, half=16.0, source="gold")
    same = toys.Pupil(0.25, 0.25, half=16.0, source="model")
    assert word(same, toys.RELEARN, gold=rough) == "erased"
    assert word(same, toys.RELEARN) == "not erased"


def test_more_than_gold_but_not_clearly_over_the_bound_is_not_called_not_erased() -> None:
    """Where the anchor itself often shows the concept, a model mapped to it does, and gold does not."""
    from oubliette.audit.result import LeakageGap
    from oubliette.audit.suite import Limits
    from oubliette.audit.verdict import NO, UNSURE, YES, _prompts, _together

    found = audited(toys.Pupil(0.12, 0.12, half=16.0, source="model"), toys.RELEARN, gold=toys.gold())
    model = next(made for made in found.rows[0].evaluated if made.subject == "model")
    limits = Limits(leakage=0.10)
    said = {
        bound: _together(
            _prompts(
                model,
                [LeakageGap(value, bound, bound, 48, split) for split in ("in-set", "withheld")],
                limits,
            )
        )
        for bound, value in ((-0.3, -0.3), (0.5, 0.5))
    }
    assert said == {-0.3: NO, 0.5: UNSURE}
    assert _together(_prompts(model, [], limits)) == UNSURE
    whole = audited(toys.base(), gold=toys.gold()).rows[0].evaluated[0]
    assert _together(_prompts(whole, [LeakageGap(0.9, 0.8, 1.0, 48, "in-set")], limits)) == YES


def test_few_pictures_are_inconclusive() -> None:
    made = toys.suite(toys.RELEARN)
    made = made.model_copy(update={"rows": [made.rows[0].model_copy(update={"n": 6}), *made.rows[1:]]})
    bench = toys.bench(toys.Pupil(0.0, 0.0), suite=made)
    found = conclude(
        Setting(bench, {"model": "m", "base": "b"}, []), run_rows(bench, None, show_progress=False)
    )
    assert found.verdict.word == "inconclusive"


def test_an_attack_too_weak_to_teach_anyone_tells_nothing() -> None:
    dull = toys.Pupil(half=9000.0, source="gold")
    found = audited(toys.Pupil(half=9000.0), toys.RELEARN, gold=dull)
    assert found.verdict.word == "inconclusive"
    assert found.rows[1].sooner is not None
    assert found.rows[1].sooner.state == "neither"


def test_points_at_which_the_attack_broke_the_model_do_not_count() -> None:
    ruined = toys.Pupil(half=16.0, breaks=40, source="model")
    row = audited(ruined, toys.RELEARN, gold=toys.gold()).rows[1]
    broken = [reading.step for reading in row.of("model")[0].readings if reading.broken]
    assert broken
    assert all(step >= 40 for step in broken)
    assert "broke the model" in row.note
    assert row.of("model")[0].to_half == pytest.approx(row.of("gold")[0].to_half, rel=0.3)


def test_a_concept_that_the_base_does_not_show_is_not_checked() -> None:
    made = toys.bench(toys.gold(), suite=toys.suite(toys.RELEARN))
    made.base.model.asked = made.base.model.meant = 0.0
    made.base.fingerprint = made.base.model.fingerprint()
    found = conclude(
        Setting(made, {"model": "m", "base": "b"}, []), run_rows(made, None, show_progress=False)
    )
    assert found.verdict.word == "not checked"
    assert found.rows[1].status == "skipped"
    assert found.exit_code == 3


@pytest.mark.parametrize(
    ("word", "code"),
    [
        ("erased", 0),
        ("suppressed on prompts", 0),
        ("hidden", 1),
        ("not erased", 1),
        ("destroyed", 1),
        ("inconclusive", 3),
        ("not checked", 3),
    ],
)
def test_exit_codes(word: str, code: int) -> None:
    from dataclasses import replace

    made = audited(toys.gold())
    assert replace(made, verdict=replace(made.verdict, word=word)).exit_code == code
