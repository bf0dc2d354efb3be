"""MACE's harmonic means: the published values, the ends, and a run by hand on the toy world."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes import CAR, NEON, RETAINED, THINGS, ToyBank, ToyJudge, ToyModel
from hypothesis import given
from hypothesis import strategies as st
from tiny_judges import clip_folder

from oubliette.core.errors import UserError
from oubliette.data.concept import Concept
from oubliette.eval.pictures.clip import open_clip_model
from oubliette.eval.pictures.clip_judge import ClipJudge
from oubliette.eval.pictures.zero_shot import ZeroShotJudge
from oubliette.eval.protocols.harmonic import (
    HarmonicResult,
    harmonic,
    harmonic_objects,
    harmonic_of,
    harmonic_pair,
)
from oubliette.eval.sample_store import SampleStore
from oubliette.eval.statistics import Rate

SHARE = st.floats(0, 1)
OTHERS = [name for name in THINGS if name != "car"]
WITH_SYNONYM = replace(CAR, synonyms=("automobile",))


@pytest.mark.parametrize(("erased", "kept", "published"), [(0.0587, 0.8554, 89.63), (0.0480, 0.8020, 87.06)])
def test_the_published_values(erased: float, kept: float, published: float) -> None:
    """SPEED's and MACE's hundred celebrities."""
    assert 100 * harmonic_pair(erased, kept) == pytest.approx(published, abs=0.005)


@given(SHARE, SHARE, SHARE)
def test_it_is_scipy_s_harmonic_mean(erased: float, kept: float, synonyms: float) -> None:
    from scipy.stats import hmean

    three, two = [1 - erased, kept, 1 - synonyms], [1 - erased, kept]
    assert harmonic_objects(erased, kept, synonyms) == pytest.approx(hmean(three), rel=1e-9, abs=1e-12)
    assert harmonic_pair(erased, kept) == pytest.approx(hmean(two), rel=1e-9, abs=1e-12)


def test_the_ends() -> None:
    assert harmonic_objects(0, 1, 0) == harmonic_pair(0, 1) == 1
    assert harmonic_objects(1, 1, 0) == harmonic_objects(0, 0, 0) == harmonic_objects(0, 1, 1) == 0
    assert harmonic_pair(1, 1) == harmonic_pair(0, 0) == 0
    with pytest.raises(ValueError, match=r"lies in 0\.\.1; found 4\.8"):
        harmonic_pair(4.8, 0.8)


def test_the_interval_holds_the_value_and_covers() -> None:
    form, value = harmonic_of(Rate.of(0, 50), Rate.of(50, 50), Rate.of(0, 50))
    assert form == "H_o"
    assert (value.value, value.n) == (1.0, 150)
    assert value.low is not None
    assert 0.9 < value.low < value.high == 1.0
    corner = harmonic_of(Rate.of(16, 16), Rate.of(16, 16), Rate.of(16, 16))[1]
    assert (corner.value, corner.low) == (0.0, 0.0)
    assert corner.high > 0.1  # though no single accuracy moved alone would lift it from zero
    rng, truth = np.random.default_rng(0), harmonic_pair(0.2, 0.8)
    found = [
        harmonic_of(Rate.mean(rng.random(60) < 0.2), Rate.mean(rng.random(60) < 0.8))[1] for _ in range(300)
    ]
    assert np.mean([f.low <= truth <= f.high for f in found]) >= 0.92


def run(model: ToyModel, concept: Concept = WITH_SYNONYM, **options: Any) -> HarmonicResult:
    settings: dict[str, Any] = {"judges": [ToyJudge()], "n": 8, "each": 4, "bank": ToyBank()}
    return harmonic(model, concept, **(settings | {"retained": RETAINED} | options))


def test_a_run_by_hand() -> None:
    (perfect,) = run(ToyModel(OTHERS)).figures
    assert (perfect.form, perfect.measure, perfect.judge, perfect.value.value) == ("H_o", "top-1", "toy", 1.0)
    assert perfect.synonyms is not None
    assert [perfect.erased.n, perfect.kept.n, perfect.synonyms.n] == [8, 8, 8]
    (base,) = run(ToyModel()).figures
    assert (base.erased.value, base.kept.value, base.value.value) == (1.0, 1.0, 0.0)
    (half,) = run(ToyModel(["boat"])).figures
    assert half.value.value == pytest.approx(3 / (1 + 2 + 1))


def test_without_synonyms_it_is_the_other_form() -> None:
    (found,) = run(ToyModel(OTHERS), CAR).figures
    assert (found.form, found.synonyms) == ("H_c", None)


def test_clip_gives_its_accuracy_and_the_trap_beside_it(tmp_path: Path) -> None:
    clip = ClipJudge(open_clip_model(str(clip_folder(tmp_path / "tiny-clip"))))
    cache = SampleStore()
    found = run(ToyModel(), judges=[ToyJudge(), clip], cache=cache)
    assert [(f.judge, f.measure) for f in found.figures] == [
        ("toy", "top-1"),
        (f"{clip.name} top-1", "top-1"),
        (f"{clip.name} top-1", "mean probability"),
    ]
    judge = ZeroShotJudge(clip, {"object": ["car", "truck", "boat"]})
    from oubliette.eval.plan import seeds_for

    prompts = ToyBank().evaluation(CAR, 8)
    shown = ToyModel().draw(prompts, seeds_for("target/object/car/in-set", 8, 0))
    assert found.figures[1].erased.value == judge.hits(shown, CAR).mean()
    assert found.figures[2].erased.value == pytest.approx(judge.probabilities(shown, CAR).mean())
    assert HarmonicResult.from_dict(found.to_dict()) == found


def test_the_pictures_are_those_of_an_evaluation() -> None:
    from oubliette.eval.evaluate import compare

    cache, model = SampleStore(), ToyModel(OTHERS)
    options: dict[str, Any] = {"n": 8, "each": 4, "bank": ToyBank(), "retained": RETAINED}
    compare({"m": model}, ToyModel(), [WITH_SYNONYM], judges=[ToyJudge()], cache=cache, **options)
    drawn = cache.drawn
    run(model, cache=cache)
    assert cache.drawn == drawn


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"retained": [NEON]}, "no other object than 'car'"),
        ({"judges": []}, "no judge covers the object 'car'"),
        ({"judges": ["oracel"]}, "no judge is called 'oracel'"),
    ],
)
def test_bad_input(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        run(ToyModel(), **options)
