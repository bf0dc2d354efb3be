"""The audit's meter: its floor is the evaluation's, and its facts cover all that it draws."""

from __future__ import annotations

from typing import Any

import numpy as np

from audit import toys
from eval.fakes import CAR, RETAINED, ToyBank, ToyJudge
from oubliette.audit.leakage_meter import LeakageMeter, painter_of
from oubliette.data.concept import Concept
from oubliette.eval.evaluate import compare
from oubliette.eval.leakage import ON_ANCHOR
from oubliette.eval.pictures.evaluator import PictureEvaluator
from oubliette.eval.pictures.sampling import Sampling
from oubliette.eval.sample_store import SampleStore
from oubliette.eval.sampler import CachedSampler


class Confused(ToyJudge):
    """Takes every boat for a car too."""

    def hits(self, pictures: np.ndarray, concept: Concept) -> np.ndarray:
        found = super().hits(pictures, concept)
        if concept.name == "car":
            found = found | super().hits(pictures, RETAINED[1])
        return found


def base() -> CachedSampler:
    return CachedSampler("none", toys.base(), SampleStore(), Sampling(), role="control")


def meter(painter: CachedSampler, **options: Any) -> LeakageMeter:
    settings: dict[str, Any] = {"pictures": 40, "kept": 9, "seed": 0}
    about = {"retained": options.pop("retained", RETAINED), "bank": ToyBank()}
    evaluator = PictureEvaluator(painter.model, [CAR], judges=[Confused()], **about)
    return LeakageMeter(painter, CAR, Confused(), evaluator=evaluator, **(settings | options))


def test_the_floor_is_that_of_an_evaluation_with_the_same_seed() -> None:
    """A boat, half of what is asked of the base without a car, passes for one; gold shows a quarter of it."""
    gold = toys.Pupil(0.25, 0.25, source="gold")
    painter = base()
    own = meter(painter, gold=painter_of("gold", gold, painter))
    evaluation = compare(
        {"model": toys.Pupil()},
        toys.base(),
        [CAR],
        judges=[Confused()],
        n=40,
        bank=ToyBank(),
        retained=RETAINED,
        controls=[("gold", gold)],
    )
    figure = evaluation.row("model").concepts[0].leakage_of("in-set")
    assert figure is not None
    assert own.floor == figure.floor
    assert own.ground == figure.ground == "the base's 40 pictures of other objects and gold's 40 of it"
    assert own.floor.hits > 20
    assert own.base_rate == figure.base
    look = own.look(painter_of("model", toys.Pupil(), painter))
    assert look.leakage == figure.leakage


def test_it_draws_what_it_says_and_its_facts_are_of_all_of_that() -> None:
    painter = base()
    own = meter(painter)
    own.prepare()
    assert painter.cache.drawn == own.base_pictures
    sets = {(role, name): len(seeds) for role, name, _, seeds in own.facts()["sets"]}
    assert sets["absent", "car"] == 40
    assert sets["target", "car"] == 40
    alone = own.facts()
    gold = painter_of("gold", toys.gold(), painter)
    with_gold = meter(painter, gold=gold)
    assert with_gold.facts() != alone
    with_gold.prepare()
    assert painter.cache.drawn == with_gold.base_pictures


def test_without_others_of_the_kind_it_falls_back_on_the_anchor() -> None:
    own = meter(base(), retained=[])
    assert own.ground == ON_ANCHOR
    assert own.floor.n == 40
