"""How many pictures a check after an erasure takes, and that a clean result is then called clean."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import oubliette.workflows.check as checking
import oubliette.workflows.pictures as pictures
from oubliette.api import load
from oubliette.data.concepts import make_concepts
from oubliette.data.png import encode_png
from oubliette.eval.leakage import leakage
from oubliette.eval.pictures.sampling import Sampling
from oubliette.eval.sample_store import SampleStore, sample_keys
from oubliette.eval.verdict import SUPPRESSED, Bounds, decide
from oubliette.workflows.modality import PICTURES

#: Seconds of one of nano's pictures on two idle cores, rounded up: 64 take 5 s.
PACE = 0.08


@pytest.fixture(scope="module")
def nano() -> Any:
    return load("nano")


class Knowing:
    """A judge that covers everything and is asked nothing."""

    name, fingerprint, threshold = "knowing", "0", None

    def covers(self, concept: Any) -> bool:
        return True

    def hits(self, pictures: np.ndarray, concept: Any) -> np.ndarray:
        raise AssertionError("nothing was drawn")


class Unchanged:
    """Weights that were never changed."""

    def originals(self) -> Any:
        from contextlib import nullcontext

        return nullcontext()


def size_at(nano: Any, pace: float, monkeypatch: pytest.MonkeyPatch, **more: Any) -> Any:
    """What is fitted where a picture of 25 steps takes `pace` seconds, and how long all take."""
    monkeypatch.setattr(pictures, "seconds_a_picture", lambda *a, **b: pace)
    car = make_concepts(nano, ["car"])
    found = checking.fitted(nano, Unchanged(), car, mode="auto", judges=[Knowing()], **more)  # type: ignore[arg-type]
    if found.size is None:
        return found, 0.0
    before = checking.OriginalView(nano, Unchanged())  # type: ignore[arg-type]
    return found, pace * planned(before, car, found.size).pictures(1) * found.how.steps / 25


def planned(before: Any, concepts: Any, size: int) -> Any:
    evaluator = PICTURES.checker(before, concepts, [Knowing()], {}, None)
    assert not isinstance(evaluator, str)
    return evaluator.plan(**PICTURES.sized(size), seed=0)


def verdict_of(hits: int, size: int) -> str:
    """Where the base shows nearly all and the floor is nothing, as on nano."""

    def mask(count: int) -> np.ndarray:
        return np.arange(size) < count

    found = [
        leakage(mask(hits), mask(round(0.97 * size)), mask(0), judge="j", split=split)
        for split in ("in-set", "withheld")
    ]
    return decide(found, None, Bounds()).word


def test_within_its_minute_auto_calls_a_clean_result_clean(
    nano: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    found, seconds = size_at(nano, PACE, monkeypatch)
    assert found.size is not None
    assert found.size >= 80
    assert found.how == Sampling()
    assert seconds <= checking.AUTO_SECONDS
    assert verdict_of(1, found.size) == verdict_of(2, found.size) == SUPPRESSED


def test_a_slower_model_gets_fewer_steps_then_fewer_pictures_and_a_much_slower_one_none(
    nano: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A machine at a third of the pace skipped its check, "about 69 s", of a result that is clean."""
    sizes = [size_at(nano, pace, monkeypatch) for pace in (0.05, 0.1, 0.15, 0.25, 0.3, 1.0)]
    assert sizes[-1][0].size is None
    assert "--check on" in sizes[-1][0].reason
    there = [(found.how.steps, found.size) for found, _ in sizes if found.size is not None]
    assert len(there) == 5
    assert there[0][0] == 25
    assert there[-1][0] == 15
    assert [steps for steps, _ in there] == sorted((steps for steps, _ in there), reverse=True)
    assert all(verdict_of(0, size) == SUPPRESSED for _, size in there[:4])
    assert all(seconds <= checking.AUTO_SECONDS for _, seconds in sizes)
    # How pictures are drawn stands where the caller says it.
    own, _ = size_at(nano, 0.15, monkeypatch, sampling=Sampling())
    assert own.how == Sampling()
    assert own.size is not None
    assert own.size < there[2][1]


def test_what_the_cache_holds_takes_no_time(
    nano: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pace, car, store = 0.12, make_concepts(nano, ["car"]), SampleStore(tmp_path)
    empty, _ = size_at(nano, pace, monkeypatch, cache=store)
    assert empty.size == size_at(nano, pace, monkeypatch)[0].size
    before = checking.OriginalView(nano, Unchanged())  # type: ignore[arg-type]
    keys = sample_keys(
        nano.fingerprint(),
        *zip(*planned(before, car, 96).drawn[1], strict=True),
        Sampling().facts(nano),
    )
    for key in keys[: len(keys) // 2]:
        store._write(key, ".png", encode_png(np.zeros((2, 2, 3), np.uint8)))
    half, _ = size_at(nano, pace, monkeypatch, cache=store)
    assert half.size > empty.size or half.how.steps > empty.how.steps


@pytest.mark.parametrize(("hits", "size"), [(0, 40), (1, 64), (2, 96)])
def test_what_the_sizes_are_for(hits: int, size: int) -> None:
    assert size in pictures._SIZES
    assert verdict_of(hits, size) == SUPPRESSED
